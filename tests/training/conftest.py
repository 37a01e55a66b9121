"""A pack folder made of the sample recordings, and a recipe small enough to train in a test."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from vqaudio.data import Item, Manifest, write_packs
from vqaudio.discriminators import PeriodDiscriminatorConfig, STFTDiscriminatorConfig
from vqaudio.models import CodecConfig, SeanetDecoderConfig, SeanetEncoderConfig
from vqaudio.quantize import ResidualVQConfig
from vqaudio.training.recipe import (
    AdversarialConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    QuantizerSchedule,
    Recipe,
    ReportConfig,
)

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"


@pytest.fixture(scope="session")
def packs_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A sample rate in Hz -> the pack folder at that rate, made when it is first asked for."""
    items = (
        Item(path="english-1.flac", split="train", speaker="a", licence="CC BY 4.0"),
        Item(path="english-mandarin-accent.flac", split="train", speaker="c", licence="Apache-2.0"),
        Item(path="english-2.flac", split="valid", speaker="b", licence="CC BY 4.0"),
    )

    @cache
    def packs_at(sample_rate: int) -> Path:
        out = tmp_path_factory.mktemp("packs") / "packs"
        out.mkdir()
        write_packs(Manifest(SAMPLES, items), out, sample_rate=sample_rate)
        return out

    return packs_at


@pytest.fixture(scope="session")
def packs(packs_at: Callable[[int], Path]) -> Path:
    return packs_at(16_000)


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
        adversarial=AdversarialConfig(
            period=PeriodDiscriminatorConfig(periods=(2, 3), channels=(4, 8)),
            stft=STFTDiscriminatorConfig(windows=(128,), channels=4),
            warmup_steps=3,
        ),
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
