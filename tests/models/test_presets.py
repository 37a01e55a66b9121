"""Presets: what their names promise of delay, and that the recipes train just them."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqaudio import AudioTokenizer, Codes, save_codec
from vqaudio.models import PRESETS, Codec, CodecConfig
from vqaudio.training import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


RECIPE = "speech_16k_unprojected"
SETTINGS = {"speech-16k": "", "speech-16k-live": "live audio"}  # words of the line in the recipe's page


@pytest.mark.parametrize("name", PRESETS)
def test_the_recipe_of_a_preset_trains_it(name: str) -> None:
    page = (RECIPES / RECIPE / "README.md").read_text(encoding="utf-8")
    lines = [
        line for line in page.replace("\\\n", "").splitlines() if "vqaudio train" in line and SETTINGS[name] in line
    ]
    words = lines[0].partition("#")[0].split()
    settings = {key.removeprefix("--"): value for key, value in itertools.pairwise(words) if key.startswith("--codec.")}
    assert bool(settings) == bool(SETTINGS[name])
    assert load_recipe(RECIPES / RECIPE, settings).codec == PRESETS[name]


def test_the_first_is_the_default() -> None:
    assert PRESETS["speech-16k"] == CodecConfig()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> AudioTokenizer:
    """The low-latency preset with random weights."""
    folder = tmp_path_factory.mktemp("live") / "model"
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec: Codec = PRESETS["speech-16k-live"].build().eval()
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        latents = codec.encode_latents(_noise(16_000 * 20, 5)[None])
        codec.quantizer.fit(latents[0].t(), generator=generator)
    save_codec(codec, folder, name="live", about={}, card="")
    return AudioTokenizer.from_pretrained(folder)


def _noise(num_samples: int, seed: int) -> Tensor:
    return 0.1 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(seed))


def test_live_latency_is_40_ms_in_all(live: AudioTokenizer) -> None:
    encoding, decoding = live.session(block_frames=1), live.decoding_session(block_frames=1)
    assert encoding.latency_seconds == 0.02
    assert decoding.latency_seconds == 0.04  # 20 of them are the frame's own length, which encoding has waited for
    audio, hop = _noise(320 * 60, 1), live.hop_length
    num_out = 0
    for frame, chunk in enumerate(audio.split(hop, dim=1), start=1):
        codes = encoding.push(chunk)
        assert codes.num_frames == 1, "each frame comes out with its last sample"
        num_out += decoding.push(codes).shape[1]
        assert num_out == (frame - 1) * hop, "sound comes out one frame later"
    rest = Codes.concatenate([encoding.finish()])
    assert rest.num_frames == 0
    assert num_out + decoding.finish().shape[1] == audio.shape[1]


def test_live_codes_see_no_future(live: AudioTokenizer) -> None:
    audio = _noise(320 * 40, 2)
    changed = audio.clone()
    changed[:, 320 * 20 :] = 5 * _noise(320 * 20, 3)  # louder: codes that were fitted to noise know loudness at least
    codes, other = live.encode(audio).values, live.encode(changed).values
    assert torch.equal(codes[..., :20], other[..., :20])
    assert not torch.equal(codes[..., 20:], other[..., 20:])
    sound, other_sound = live.decode(live.encode(audio)), live.decode(live.encode(changed))
    assert torch.equal(sound[:, : 320 * 19], other_sound[:, : 320 * 19]), "more than one frame of look-ahead"
    assert not torch.equal(sound[:, 320 * 19 : 320 * 20], other_sound[:, 320 * 19 : 320 * 20])
