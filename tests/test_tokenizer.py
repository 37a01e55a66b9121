"""AudioTokenizer: the laws of length, prefix and no trace, and every kind of audio that may come in."""

import copy
import dataclasses
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from fractions import Fraction
from math import log2
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st

from tests.tiny import HOP, KINDS, SAMPLE_RATE, noise, save_tiny, tiny_tokenizer
from vqaudio import pretrained
from vqaudio.checkpoint import CheckpointError, save_codec
from vqaudio.codes import Codes, CodesError
from vqaudio.dsp import resample
from vqaudio.engine import BLOCK_FRAMES
from vqaudio.io import write_audio
from vqaudio.shipped import find_model, shipped_models
from vqaudio.tokenizer import AudioTokenizer

ROOT = Path(__file__).resolve().parent.parent

every_kind = pytest.mark.parametrize("kind", KINDS)
BLOCK_SAMPLES = BLOCK_FRAMES * HOP


# ---- laws


@every_kind
@settings(max_examples=15)
@given(num_samples=st.integers(0, 3 * HOP) | st.integers(BLOCK_SAMPLES - HOP, BLOCK_SAMPLES + HOP))
def test_length_is_kept(kind: str, num_samples: int) -> None:
    tokenizer = tiny_tokenizer(kind)
    codes = tokenizer.encode(noise(1, num_samples))
    assert codes.num_samples == num_samples
    assert codes.num_frames == tokenizer.frames_for(num_samples) == -(-num_samples // HOP)
    assert tokenizer.decode(codes).shape == (1, num_samples)


@every_kind
@settings(max_examples=15)
@given(num_samples=st.integers(0, 5000), source_rate=st.sampled_from([1_000, 2_205, 4_410, 4_800, 8_000]))
def test_length_of_the_source_comes_back_exactly(kind: str, num_samples: int, source_rate: int) -> None:
    tokenizer = tiny_tokenizer(kind)
    codes = tokenizer.encode(noise(1, num_samples), source_rate)
    assert codes.num_samples == -(-num_samples * SAMPLE_RATE // source_rate)
    assert tokenizer.decode(codes).shape == (1, codes.num_samples)
    assert tokenizer.decode(codes, sample_rate="source").shape == (1, num_samples)
    assert tokenizer.decode(codes, sample_rate=source_rate).shape == (1, num_samples)
    assert tokenizer.decode(codes, sample_rate=3_200).shape == (1, -(-num_samples * 3_200 // source_rate))


@settings(max_examples=15)
@given(
    num_samples=st.integers(1, 3000),
    source_rate=st.sampled_from([1_000, 4_410, 1_599]),
    cut=st.fractions(0, 1, max_denominator=100),
)
def test_pieces_of_codes_come_back_at_their_own_lengths(num_samples: int, source_rate: int, cut: Fraction) -> None:
    tokenizer = tiny_tokenizer("fsq")
    codes = tokenizer.encode(noise(1, num_samples), source_rate)
    for part in (codes.slice(0, cut * 2), codes.slice(cut * 2, 1_000)):
        assert tokenizer.decode(part).shape == (1, part.num_samples)
        assert tokenizer.decode(part, sample_rate="source").shape == (1, part.source_num_samples)


@every_kind
def test_fewer_codebooks_are_the_first_rows(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    audio = noise(2, 1_234)
    codes = tokenizer.encode(audio, channels="keep")
    for number in range(1, tokenizer.num_codebooks + 1):
        fewer = tokenizer.encode(audio, channels="keep", num_codebooks=number)
        assert fewer == codes.prefix(number)
        assert tokenizer.decode(fewer).shape == (2, 1_234)


@every_kind
def test_codes_depend_on_nothing_but_the_samples(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    audios = [noise(1, length, seed=length) for length in (10, 3_000, BLOCK_SAMPLES + 1)]
    alone = [tokenizer.encode(audio) for audio in audios]
    assert tokenizer.encode_batch(audios) == alone
    assert tokenizer.encode_batch(audios[::-1]) == alone[::-1]
    together = tokenizer.decode_batch(alone)
    assert all(torch.equal(tokenizer.decode(codes), audio) for codes, audio in zip(alone, together, strict=True))
    longer = tokenizer.encode(torch.cat([audios[1], torch.zeros(1, 999)], dim=1))
    assert torch.equal(longer.values[..., : alone[1].num_frames], alone[1].values)


@every_kind
def test_no_trace_is_left(kind: str) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer(kind))
    before = {key: value.clone() for key, value in tokenizer.codec.state_dict().items()}
    random_state = torch.random.get_rng_state()
    codes = tokenizer.encode(noise(1, 3_000), 4_410)
    tokenizer.decode(codes, sample_rate="source")
    tokenizer.embed(codes)
    tokenizer.codebook(0)
    assert all(torch.equal(value, before[key]) for key, value in tokenizer.codec.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)


# ---- what comes in


def test_a_file_gives_the_codes_of_its_samples(tmp_path: Path) -> None:
    tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(2, 70_000)
    path = tmp_path / "a.wav"
    write_audio(path, audio, 4_800, subtype="FLOAT")
    mixed = tokenizer.encode(path)
    assert mixed.channels == 1
    assert (mixed.source_sample_rate, mixed.source_num_samples) == (4_800, 70_000)
    assert mixed == tokenizer.encode(audio, 4_800)
    assert mixed == tokenizer.encode(str(path), sample_rate=4_800)
    assert mixed == tokenizer.encode(io.BytesIO(path.read_bytes()))
    with open(path, "rb") as file:
        assert mixed == tokenizer.encode(file)
    assert torch.equal(mixed.values, tokenizer.encode(resample(audio.mean(0, keepdim=True), 4_800, 1_600)).values)
    kept = tokenizer.encode(path, channels="keep")
    assert kept.channels == 2
    for channel in range(2):
        assert torch.equal(kept.values[channel : channel + 1], tokenizer.encode(audio[channel], 4_800).values)


@pytest.mark.parametrize(("dtype", "scale"), [("int16", 2**15), ("int32", 2**31), ("uint8", 2**7)])
def test_pcm_arrays_are_scaled(dtype: str, scale: int) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    steps = (noise(2, 500).clamp(-1, 0.99).double() * scale).round()
    pcm = (steps + 128 if dtype == "uint8" else steps).to(getattr(torch, dtype))
    expected = tokenizer.encode((steps / scale).float())
    assert tokenizer.encode(pcm) == expected
    assert tokenizer.encode(pcm.numpy()) == expected
    assert tokenizer.encode(pcm.numpy().astype(pcm.numpy().dtype.newbyteorder(">"))) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_other_widths_mean_their_values(dtype: torch.dtype) -> None:
    tokenizer, audio = tiny_tokenizer("fsq"), noise(1, 500).to(dtype)
    assert tokenizer.encode(audio) == tokenizer.encode(audio.float())
    if dtype != torch.bfloat16:
        assert tokenizer.encode(audio.numpy()) == tokenizer.encode(audio.float())


def test_arrays_of_any_layout_are_read() -> None:
    tokenizer, audio = tiny_tokenizer("fsq"), noise(2, 500)
    expected = tokenizer.encode(audio)
    array = audio.numpy().copy()
    array.setflags(write=False)
    assert tokenizer.encode(array) == expected
    assert tokenizer.encode(np.asfortranarray(array)) == expected
    assert tokenizer.encode(array[:, ::-1].copy()[:, ::-1]) == expected
    assert tokenizer.encode(audio.t().contiguous().t().requires_grad_()) == expected
    assert tokenizer.encode(audio[0]) == tokenizer.encode(audio[:1])


def test_float_defaults_of_the_caller_do_not_matter() -> None:
    tokenizer, audio = tiny_tokenizer("fsq"), noise(1, 500)
    codes = tokenizer.encode(audio, 4_410)
    decoded = tokenizer.decode(codes, sample_rate="source")
    torch.set_default_dtype(torch.float64)
    try:
        assert tokenizer.encode(audio, 4_410) == codes
        again = tokenizer.decode(codes, sample_rate="source")
    finally:
        torch.set_default_dtype(torch.float32)
    assert again.dtype == torch.float32
    assert torch.equal(again, decoded)


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", noise(1, 200_000), SAMPLE_RATE)
    seen: list[float] = []
    tiny_tokenizer("fsq").encode(tmp_path / "a.wav", progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 2 and seen[-1] == 1.0


# ---- facts and vectors


def test_facts() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    assert (tokenizer.sample_rate, tokenizer.hop_length, tokenizer.frame_rate) == (1_600, 20, Fraction(80))
    assert tokenizer.codebook_sizes == (32, 32, 32)
    assert tokenizer.bitrates() == {1: 400.0, 2: 800.0, 3: 1200.0}
    assert tokenizer.bitrates()[3] == tokenizer.encode(noise(1, 50)).bitrate
    assert tiny_tokenizer("fsq").bitrates()[2] == pytest.approx(2 * 80 * log2(12))
    assert [tokenizer.samples_for(n) for n in (0, 1, 3)] == [0, 20, 60]
    assert "tiny-rvq-projected" in repr(tokenizer)


@every_kind
def test_embedding_is_the_sum_of_codebook_rows(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    codes = tokenizer.encode(noise(2, 900), channels="keep")
    rows = [tokenizer.codebook(level)[codes.values[:, level]] for level in range(codes.num_codebooks)]  # (C, N, D)
    torch.testing.assert_close(tokenizer.embed(codes), sum(rows).transpose(1, 2))  # type: ignore[union-attr]
    assert tokenizer.embed(tokenizer.encode(noise(1, 0))).shape == (1, 16, 0)


# ---- models


@every_kind
def test_saving_keeps_everything(kind: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(kind)
    tokenizer.save_pretrained(tmp_path / "copy")
    again = AudioTokenizer.from_pretrained(tmp_path / "copy")
    assert again.info == tokenizer.info
    assert again.card == tokenizer.card == "A model for tests.\n"
    audio = noise(1, 700)
    assert again.encode(audio) == tokenizer.encode(audio)
    assert torch.equal(again.decode(again.encode(audio)), tokenizer.decode(tokenizer.encode(audio)))


def test_half_precision_models_keep_their_fingerprints(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    save_codec(tokenizer.codec, tmp_path / "a", name="a", about={}, card="", storage="float16")
    first = AudioTokenizer.from_pretrained(tmp_path / "a")
    first.save_pretrained(tmp_path / "b")
    assert AudioTokenizer.from_pretrained(tmp_path / "b").info == first.info
    assert (tmp_path / "b/model.safetensors").read_bytes() == (tmp_path / "a/model.safetensors").read_bytes()


def test_a_name_without_version_is_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (2, 9, 10):
        save_tiny("fsq", tmp_path / f"toy-v{version}")
    (tmp_path / "toy-v11").mkdir()  # no model in it
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(pretrained, "__file__", str(tmp_path / "__init__.py"))
    assert list(shipped_models()) == ["toy-v2", "toy", "toy-v9", "toy-v10"]
    assert find_model("toy") == tmp_path / "toy-v10"
    assert find_model("toy-v9") == tmp_path / "toy-v9"
    with pytest.raises(CheckpointError, match=r"toy-v3: neither a folder nor .*\(toy, toy-v10, toy-v2, toy-v9\)"):
        AudioTokenizer.from_pretrained("toy-v3")


def test_codes_of_another_tokenizer_are_refused_and_those_of_another_decoder_not(tmp_path: Path) -> None:
    tokenizer, other = tiny_tokenizer("rvq-projected"), tiny_tokenizer("rvq-unprojected")
    codes = tokenizer.encode(noise(1, 100))
    for refused in (other.decode, other.embed, other.decode_blocks):
        with pytest.raises(CodesError, match=r"another tokenizer .*tiny-rvq-unprojected reads its own"):
            refused(codes)
    finetuned = copy.deepcopy(tokenizer.codec)
    finetuned.decoder.layers[0].conv.weight.data.mul_(1.1)  # type: ignore[union-attr]
    save_codec(finetuned, tmp_path / "finetuned", name="finetuned", about={}, card="")
    heard = AudioTokenizer.from_pretrained(tmp_path / "finetuned").decode(codes)
    assert not torch.equal(heard, tokenizer.decode(codes))


def test_a_source_that_ends_just_after_the_codes_keeps_its_length() -> None:
    """As pieces of several recordings, concatenated, may."""
    tokenizer = tiny_tokenizer("rvq-projected")
    whole = tokenizer.encode(noise(1, 20))
    codes = dataclasses.replace(whole, source_sample_rate=4_410, source_num_samples=57)  # 20 samples give 56
    assert tokenizer.decode(codes, sample_rate="source").shape == (1, 57)


def test_codes_that_were_made_up_are_checked() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    values = torch.zeros(1, 1, 5, dtype=torch.int64)
    facts = {"num_samples": 100, "source_num_samples": 100, "token_fingerprint": tokenizer.token_fingerprint}
    wrong = Codes(values, (64,), sample_rate=1_600, hop_length=20, source_sample_rate=1_600, **facts)  # type: ignore[arg-type]
    with pytest.raises(CodesError, match=r"codebook_sizes \(64,\); tiny-rvq-projected has \(32,\)"):
        tokenizer.decode(wrong)


# ---- processes and threads


def test_pickled_and_copied_tokenizers_agree() -> None:
    tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(1, 500)
    codes = tokenizer.encode(audio)
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.copy(tokenizer), copy.deepcopy(tokenizer)):
        assert other.encode(audio) == codes
        assert torch.equal(other.decode(codes), tokenizer.decode(codes))


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    audios = [noise(1, 1_000 + seed, seed) for seed in range(6)]
    found: dict[int, Codes] = {}

    def work(number: int) -> None:
        found[number] = tokenizer.encode(audios[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(6)] == tokenizer.encode_batch(audios)


def _send_codes(tokenizer: AudioTokenizer, audio: torch.Tensor, pipe: "multiprocessing.connection.Connection") -> None:
    pipe.send(tokenizer.encode(audio).to_numpy())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_may_use_its_parents_tokenizer() -> None:
    tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(1, 50_000)
    expected = tokenizer.encode(audio).to_numpy()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_send_codes, args=(tokenizer, audio, sender))
    child.start()
    assert receiver.poll(60), "the child hangs"
    assert np.array_equal(receiver.recv(), expected)
    child.join()


FORKED_AFTER_PARALLEL_WORK = """
import multiprocessing, torch
from tests.tiny import noise, tiny_tokenizer

def frames(audio):
    torch.zeros(10_000_000).add_(1.0)  # shared by all threads that there are
    return tokenizer.encode(audio, 4_800).num_frames

tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(2, 6_000)
assert torch.get_num_threads() == 2
expected = frames(audio)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(frames, [audio, audio]) == [expected] * 2
assert torch.get_num_threads() == 2
"""


def test_forked_processes_do_not_wait_for_threads_that_stayed_behind() -> None:
    command = [sys.executable, "-c", FORKED_AFTER_PARALLEL_WORK]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        assert process.wait(timeout=60) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too, if they wait


def test_soundfile_reads_what_was_written(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    audio = tokenizer.decode(tokenizer.encode(noise(2, 999), channels="keep"))
    write_audio(tmp_path / "again.wav", audio, tokenizer.sample_rate)
    samples, rate = soundfile.read(tmp_path / "again.wav", dtype="float32", always_2d=True)
    assert rate == 1_600
    assert np.abs(samples.T - audio.clamp(-1, 1).numpy()).max() <= 2**-15
