"""Every recipe, shrunk to twenty steps, trains a model that codes."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_loop import RECIPES, lines
from vqaudio.checkpoint import load_codec
from vqaudio.data import PackedAudio
from vqaudio.training.loop import train
from vqaudio.training.recipe import load_recipe

# Those that train a codec; language models have recipes of their own.
CODEC_RECIPES = sorted(path.parent.name for path in RECIPES.glob("*/recipe.toml") if not path.match("lm_*/*"))

# What every recipe is shrunk by to run 20 steps in a test: batch, crop, width and budget, never its kind of parts.
SMALL = {
    "steps": "20",
    "data.batch_size": "4",
    "data.crop_seconds": "0.3",
    "optimizer.warmup_steps": "5",
    "quantizer.quantize_after": "8",
    "quantizer.fit_batches": "4",
    "adversarial.period.channels": "[4, 8]",
    "adversarial.stft.channels": "4",
    "report.log_every": "2",
    "report.validate_every": "10",
    "report.validation_clips": "1",
    "report.validation_seconds": "1.0",
}


# As their own commands say.
BEGUN_FROM = {
    "finetune_decoder": "speech-16k",
    "speech_16k_adversarial": "speech-16k-v1",
    "speech_16k_compressed": "speech-16k-v3",
}
# A wide model takes its time even so.
FEWER = {
    "codec.encoder.channels": "64",
    "codec.decoder.channels": "96",
    "codec.encoder.blocks": "1",
    "codec.decoder.blocks": "1",
}
NARROW = {name: FEWER for name in ("musdb18_44k", "music_44k", "music_44k_unprojected")}


@pytest.mark.parametrize("folder", CODEC_RECIPES)
def test_every_recipe_runs_twenty_steps_to_a_model_that_codes(
    folder: str, packs_at: Callable[[int], Path], tmp_path: Path
) -> None:
    recipe = load_recipe(RECIPES / folder, SMALL | NARROW.get(folder, {}))
    rate = recipe.codec.sample_rate
    packs = packs_at(rate)
    parent = BEGUN_FROM.get(folder)
    heard = "reconstruction" if parent else "loss" if recipe.losses.waveform_mse else "complex"
    if recipe.codec.encoder.kind == "hybrid" and not parent:
        heard = "mel"  # leads from the first step; phases take their time
    train(recipe, packs, tmp_path / "run", init_from=parent)
    entries = lines(tmp_path / "run", "train")
    assert [entry["step"] for entry in entries] == list(range(2, 21, 2))
    assert all(math.isfinite(entry["loss"]) and entry["loss"] > 0 for entry in entries)
    # on the same clips, soon after codes were first chosen and at the end; losses of codebooks have no fixed scale
    first, last = lines(tmp_path / "run", "validation")
    # a trained model has nothing certain to win in twenty steps on clips that it is not trained on, nor has one
    # that plays in most of them; it must not lose
    assert last[heard] < first[heard] * (1.05 if parent or recipe.stages.plays else 1.0)
    assert not lines(tmp_path / "run", "skipped")
    codec, _ = load_codec(tmp_path / "run" / "model")
    audio = PackedAudio(packs, "valid").clip(0)[None, None, :rate] / np.float32(32768)
    codes = codec.encode(torch.from_numpy(audio))
    assert len(torch.unique(codes)) > 10
    assert codec.decode(codes).shape[-1] >= rate
