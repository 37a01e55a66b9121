"""The laws that only a trained model can keep, and all others once more on the models that ship."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

import vqaudio
from vqaudio.checkpoint import load_codec
from vqaudio.dsp import mix_down, resample
from vqaudio.metrics import mel_distance, si_sdr
from vqaudio.shipped import shipped_models
from vqaudio.training.recipe import load_recipe

PRETRAINED = Path(vqaudio.__file__).parent / "pretrained"
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
RECIPES = {
    "speech-16k-v1": "speech_16k",
    "speech-16k-v2": "speech_16k_adversarial",
    "speech-16k-v3": "speech_16k_spectral",
    "speech-16k-v4": "speech_16k_gpu",
    "speech-16k-live-v1": "speech_16k_live",
    "speech-16k-live-v2": "speech_16k_live_spectral",
    "speech-16k-live-v3": "speech_16k_live_gpu",
    "speech-16k-single-v1": "speech_16k_single",
    "speech-16k-single-v2": "speech_16k_single_gpu",
    "music-44k-v1": "music_44k",
    "music-44k-v2": "music_44k_unprojected",
}
NEWEST = {path.name for name, path in shipped_models().items() if name != path.name}
SPEECH = ("english-1.flac", "english-2.flac", "english-mandarin-accent.flac", "french-2.opus")


@pytest.fixture(scope="module", params=sorted(path.parent.name for path in PRETRAINED.glob("*/config.json")))
def tokenizer(request: pytest.FixtureRequest) -> vqaudio.AudioTokenizer:
    return vqaudio.AudioTokenizer.from_pretrained(request.param)


@pytest.fixture(scope="module", params=sorted(NEWEST))
def newest(request: pytest.FixtureRequest) -> vqaudio.AudioTokenizer:
    """Of each model the version that ships now, for what takes long to hear."""
    return vqaudio.AudioTokenizer.from_pretrained(request.param)


def clip(tokenizer: vqaudio.AudioTokenizer, name: str) -> Tensor:
    """(1, T) at the tokenizer's rate."""
    audio, rate = vqaudio.read_audio(SAMPLES / name)
    return resample(mix_down(audio), rate, tokenizer.sample_rate)


def test_the_newest_version_stands_behind_its_short_name() -> None:
    newest = sorted(PRETRAINED.glob("speech-16k-v*"))[-1]
    assert (
        vqaudio.AudioTokenizer.from_pretrained("speech-16k").token_fingerprint
        == vqaudio.AudioTokenizer.from_pretrained(newest).token_fingerprint
    )


def test_speech_16k_is_what_its_name_promises() -> None:
    tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k")
    assert (tokenizer.sample_rate, tokenizer.frame_rate, tokenizer.codebook_sizes) == (16_000, 50, (1024,) * 8)
    assert list(tokenizer.bitrates().values()) == [500 * k for k in range(1, 9)]


def test_speech_16k_live_is_what_its_name_promises() -> None:
    tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k-live")
    assert (tokenizer.sample_rate, tokenizer.frame_rate, tokenizer.codebook_sizes) == (16_000, 50, (1024,) * 8)
    encoding, decoding = tokenizer.session(block_frames=1), tokenizer.decoding_session(block_frames=1)
    assert encoding.latency_seconds + decoding.latency_seconds - 1 / tokenizer.frame_rate == pytest.approx(0.04)


def test_speech_16k_single_is_what_its_name_promises() -> None:
    tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k-single")
    assert (tokenizer.sample_rate, tokenizer.frame_rate, tokenizer.codebook_sizes) == (16_000, 80, (8192,))
    assert tokenizer.bitrates() == {1: 1040}


def test_music_44k_is_what_its_name_promises() -> None:
    tokenizer = vqaudio.AudioTokenizer.from_pretrained("music-44k")
    assert (tokenizer.sample_rate, tokenizer.frame_rate, tokenizer.codebook_sizes) == (44_100, 50, (1024,) * 12)
    assert list(tokenizer.bitrates().values()) == [500 * k for k in range(1, 13)]


def test_every_shipped_model_has_the_codec_of_its_recipe() -> None:
    """Also when defaults have changed since."""
    assert set(RECIPES) == {path.name for path in PRETRAINED.glob("*-v*")}
    for model, recipe in RECIPES.items():
        codec, _ = load_codec(PRETRAINED / model)
        assert load_recipe(PRETRAINED.parent.parent / "recipes" / recipe).codec == codec.config, model


@pytest.mark.parametrize("folder", sorted(PRETRAINED.glob("*-v*")), ids=lambda folder: folder.name)
def test_a_shipped_model_is_small_and_says_where_it_comes_from(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20e6
    card = (folder / "card.md").read_text(encoding="utf-8")
    origin = ("CC BY 4.0", "LibriSpeech", "PESQ")
    if folder.name.startswith("music"):
        origin = ("CC BY-SA 4.0", "Red Eclipse", "ViSQOL")
    for word in ("steps", *origin):
        assert word in card, word


@settings(max_examples=8)
@given(num_samples=st.integers(0, 3 * 320) | st.integers(0, 9_000), rate=st.sampled_from([16_000, 8_000, 44_100]))
def test_every_length_comes_back(tokenizer: vqaudio.AudioTokenizer, num_samples: int, rate: int) -> None:
    audio = 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples))
    codes = tokenizer.encode(audio, rate)
    assert codes.num_frames == tokenizer.frames_for(codes.num_samples)
    assert tokenizer.decode(codes).shape == (1, -(-num_samples * tokenizer.sample_rate // rate))
    assert tokenizer.decode(codes, sample_rate="source").shape == (1, num_samples)


@settings(max_examples=5)
@given(zeros=st.integers(1, 90_000), cut=st.integers(20_000, 60_000))
def test_silence_that_follows_changes_no_code(tokenizer: vqaudio.AudioTokenizer, zeros: int, cut: int) -> None:
    audio = clip(tokenizer, SPEECH[0])[:, :cut]
    alone = tokenizer.encode(audio).values
    longer = tokenizer.encode(torch.cat([audio, torch.zeros(1, zeros)], dim=1)).values
    assert torch.equal(longer[..., : alone.shape[-1]], alone)


def test_neighbours_threads_and_autocast_change_no_code(tokenizer: vqaudio.AudioTokenizer) -> None:
    clips = [clip(tokenizer, name)[:, :40_000] for name in SPEECH[:3]]
    alone = [tokenizer.encode(audio) for audio in clips]
    assert tokenizer.encode_batch(clips) == alone
    assert tokenizer.encode_batch(clips[::-1]) == alone[::-1]
    kept = tokenizer.encode(torch.cat(clips), channels="keep")
    assert torch.equal(kept.values, torch.cat([codes.values for codes in alone]))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert tokenizer.encode(clips[0]) == alone[0]
    finally:
        torch.set_num_threads(threads)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tokenizer.encode(clips[0]) == alone[0]


def test_a_prefix_of_the_codebooks_is_a_prefix_of_the_codes(tokenizer: vqaudio.AudioTokenizer) -> None:
    audio = clip(tokenizer, SPEECH[1])[:, :20_000]
    whole = tokenizer.encode(audio)
    for count in range(1, tokenizer.num_codebooks + 1):
        assert tokenizer.encode(audio, num_codebooks=count) == whole.prefix(count)


def test_more_codebooks_never_sound_worse(newest: vqaudio.AudioTokenizer) -> None:
    ratios, distances, rate = [], [], newest.sample_rate
    for name in SPEECH:
        audio = clip(newest, name)
        codes = newest.encode(audio)
        decoded = [newest.decode(codes.prefix(count))[None] for count in range(1, newest.num_codebooks + 1)]
        ratios.append([float(si_sdr(estimate, audio[None])) for estimate in decoded])
        distances.append([float(mel_distance(estimate, audio[None], sample_rate=rate)) for estimate in decoded])
    ratio, distance = np.mean(ratios, axis=0), np.mean(distances, axis=0)
    assert (np.diff(ratio) > 0).all(), ratio
    assert (np.diff(distance) < 0).all(), distance


def test_embed_is_the_sum_of_codebook_rows(tokenizer: vqaudio.AudioTokenizer) -> None:
    codes = tokenizer.encode(clip(tokenizer, SPEECH[0])[:, :20_000])
    rows = sum(tokenizer.codebook(k)[codes.values[0, k]] for k in range(tokenizer.num_codebooks))
    assert isinstance(rows, Tensor)
    torch.testing.assert_close(tokenizer.embed(codes)[0], rows.t(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("before", [False, True])
def test_silence_in_silence_out(tokenizer: vqaudio.AudioTokenizer, before: bool) -> None:
    seconds = tokenizer.sample_rate
    audio = torch.zeros(1, 4 * seconds)
    if before:  # also after speech, once the model's memory of it has run out
        audio[:, :seconds] = clip(tokenizer, SPEECH[0])[:, seconds : 2 * seconds]
    decoded = tokenizer.decode(tokenizer.encode(audio))
    assert decoded[:, 3 * seconds :].abs().max() < 1e-3  # -60 dBFS


def test_the_edges_of_a_clip_are_coded_as_well_as_its_interior(newest: vqaudio.AudioTokenizer) -> None:
    edge = newest.sample_rate // 20  # 50 ms
    edges, interiors = [], []
    for name in SPEECH:
        audio = clip(newest, name)
        for start in range(8_000, audio.shape[1] - 24_000, 8_000):  # cut in mid-speech
            cut = audio[:, start : start + 16_000]
            error = (newest.decode(newest.encode(cut)) - cut).square()[0]
            edges.append(float(torch.cat([error[:edge], error[-edge:]]).mean()))
            interiors.append(float(error[edge:-edge].mean()))
    assert np.mean(edges) <= 1.5 * np.mean(interiors)


def test_coding_leaves_no_trace(tokenizer: vqaudio.AudioTokenizer) -> None:
    audio = clip(tokenizer, SPEECH[2])[:, :20_000]
    tokenizer.codec.train()  # even so
    state = {name: value.clone() for name, value in tokenizer.codec.state_dict().items()}
    random = torch.get_rng_state()
    codes = tokenizer.encode(audio)
    tokenizer.decode(codes)
    tokenizer.codec.eval()
    assert tokenizer.encode(audio) == codes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in tokenizer.codec.state_dict().items())


def test_the_error_at_the_borders_of_blocks_is_that_of_the_interior(newest: vqaudio.AudioTokenizer) -> None:
    """Short blocks, so that there are many borders: no click, no seam."""
    block, hop = 10, newest.hop_length
    borders, interiors = [], []
    for name in SPEECH:
        audio = clip(newest, name)
        encoding, decoding = newest.session(block_frames=block), newest.decoding_session(block_frames=block)
        codes = vqaudio.Codes.concatenate([encoding.push(audio), encoding.finish()])
        sound = torch.cat([decoding.push(codes), decoding.finish()], dim=1)
        error = (sound - audio).square()[0, : audio.shape[1] // (block * hop) * block * hop]
        in_block = error.view(-1, block * hop)
        near = hop // 4  # 5 ms on either side
        borders.append(torch.cat([in_block[:, :near], in_block[:, -near:]], dim=1).flatten())
        interiors.append(in_block[:, near:-near].flatten())
        torch.testing.assert_close(sound, newest.decode(codes), atol=1e-5, rtol=1e-5)
    assert torch.cat(borders).mean() / torch.cat(interiors).mean() == pytest.approx(1.0, abs=0.2)


def test_saved_again_it_keeps_both_fingerprints(tokenizer: vqaudio.AudioTokenizer, tmp_path: Path) -> None:
    """Also after its config classes have gained fields."""
    tokenizer.save_pretrained(tmp_path / "again")
    again = vqaudio.AudioTokenizer.from_pretrained(tmp_path / "again")
    assert again.info.token_fingerprint == tokenizer.info.token_fingerprint
    assert again.info.model_fingerprint == tokenizer.info.model_fingerprint
