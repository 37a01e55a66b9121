"""A recipe: everything that decides a training run, as one config tree (`recipes/NAME/recipe.toml`).

Defaults stand here, once; a recipe file writes only what differs. Loss weights live here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vqaudio.config import apply_overrides, from_dict, load_toml
from vqaudio.models import CodecConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    batch_size: int = 10
    crop_seconds: float = 1.0
    gain_db: tuple[float, float] = (-10.0, 6.0)  # range of the random gain
    full_edges_probability: float = 0.1  # crops laid over the real start or end of a recording
    silence_probability: float = 0.02
    partial_silence_probability: float = 0.02


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up and a cosine that ends with the budget."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    warmup_steps: int = 100
    final_fraction: float = 0.02  # of the learning rate, at the end of the cosine
    clip_norm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class QuantizerSchedule:
    quantize_after: int = 150  # steps without quantiser, so that k-means starts on latents that mean something
    fit_batches: int = 24  # batches whose latents k-means sees; 10 vectors per code is enough
    dropout: float = 0.5  # share of items coded with a random number of codebooks (DAC: 0.5)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights; a term of weight 0 is not computed.

    `magnitudes_after` holds the terms that are deaf to phase (mel, magnitude, log_magnitude) back for a while. Their
    gradients are several times larger; in short runs from random weights the waveform losses fell only without them.
    Later they may count for more: in the steps of `magnitudes_raised` they weigh `magnitudes_raise` times as much.
    """

    magnitudes_after: int = 0  # steps
    magnitudes_raised: tuple[int, int] = (0, 0)  # the first such step, and the first after them
    magnitudes_raise: float = 1.0

    mel: float = 1.0  # multi-scale log10 mel, L1
    mel_windows: tuple[int, ...] = (64, 256, 1024)
    num_mels: tuple[int, ...] = (10, 40, 80)
    magnitude: float = 0.5  # spectral convergence
    log_magnitude: float = 0.0
    complex: float = 0.5  # complex spectra: the term that hears phase
    stft_windows: tuple[int, ...] = (128, 512)
    waveform_l1: float = 0.1
    waveform_mse: float = 0.0
    mu_law: float = 0.0  # cross-entropy of a decoder over µ-law classes
    commitment: float = 0.25  # β
    codebook: float = 1.0
    residual: float = 1.0  # read-out of projected levels

    def magnitudes_at(self, step: int) -> float:
        """The factor on the terms deaf to phase at a step."""
        if step < self.magnitudes_after:
            return 0.0
        first, after = self.magnitudes_raised
        return self.magnitudes_raise if first <= step < after else 1.0


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    log_every: int = 20  # steps
    validate_every: int = 500
    validation_clips: int = 48
    validation_seconds: float = 6.0
    samples_every: int = 2000  # steps between written audio samples
    num_samples: int = 3
    checkpoint_every: int = 500
    keep_checkpoints: int = 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    seed: int = 0
    steps: int = 10_000  # budget, unless the command gives steps or minutes
    codec: CodecConfig = field(default_factory=CodecConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    quantizer: QuantizerSchedule = field(default_factory=QuantizerSchedule)
    losses: LossConfig = field(default_factory=LossConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        if (self.losses.mu_law > 0) != (self.codec.output == "mu_law"):
            raise ValueError("losses.mu_law and codec.output = 'mu_law' belong together: set both or neither")
        if self.steps < 1 or self.data.batch_size < 1 or self.crop_samples < 1:
            raise ValueError("steps, data.batch_size and data.crop_seconds must be positive")

    @property
    def crop_samples(self) -> int:
        """The crop in samples, cut to whole frames: the decoder then has no partial frame to learn."""
        hop = self.codec.hop_length
        return int(self.data.crop_seconds * self.codec.sample_rate) // hop * hop


def load_recipe(path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in a TOML file (or in the folder that holds recipe.toml), with dotted overrides applied."""
    path = Path(path)
    path = path / "recipe.toml" if path.is_dir() else path
    return from_dict(Recipe, apply_overrides(load_toml(path), overrides or {}))
