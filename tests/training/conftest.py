"""A pack folder made of the sample recordings, and a recipe small enough to train in a test."""

from pathlib import Path

import pytest

from vqaudio.data import Item, Manifest, write_packs
from vqaudio.models import CodecConfig, SeanetDecoderConfig, SeanetEncoderConfig
from vqaudio.quantize import ResidualVQConfig
from vqaudio.training.recipe import DataConfig, LossConfig, OptimizerConfig, QuantizerSchedule, Recipe, ReportConfig

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    items = (
        Item(path="english-1.flac", split="train", speaker="a", licence="CC BY 4.0"),
        Item(path="english-mandarin-accent.flac", split="train", speaker="c", licence="Apache-2.0"),
        Item(path="english-2.flac", split="valid", speaker="b", licence="CC BY 4.0"),
    )
    out = tmp_path_factory.mktemp("packs") / "packs"
    out.mkdir()
    write_packs(Manifest(SAMPLES, items), out, sample_rate=16_000)
    return out


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="tiny",
        seed=7,
        steps=12,
        codec=CodecConfig(
            encoder=SeanetEncoderConfig(
                strides=(8, 8), channels=(8, 16), units=(1, 0), blocks=1, look_ahead_frames=1, unit_kernel=3
            ),
            quantizer=ResidualVQConfig(dim=8, num_codebooks=3, codebook_size=16, codebook_dim=4),
            decoder=SeanetDecoderConfig(
                strides=(8, 8), channels=(16, 8), units=(0, 1), blocks=1, look_ahead_frames=1, unit_kernel=3
            ),
        ),
        data=DataConfig(batch_size=3, crop_seconds=0.2),
        optimizer=OptimizerConfig(warmup_steps=3),
        quantizer=QuantizerSchedule(quantize_after=4, fit_batches=3),
        losses=LossConfig(mel_windows=(64, 256), num_mels=(10, 40), stft_windows=(128,)),
        report=ReportConfig(
            log_every=2,
            validate_every=5,
            validation_clips=2,
            validation_seconds=0.5,
            samples_every=10,
            num_samples=1,
            checkpoint_every=3,
        ),
    )
