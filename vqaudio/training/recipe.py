"""A recipe: everything that decides a training run, as one config tree (`recipes/NAME/recipe.toml`).

Defaults stand here, once; a recipe file writes only what differs. Loss weights live here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vqaudio.config import LATER, apply_overrides, from_dict, load_toml
from vqaudio.discriminators import Discriminators, PeriodDiscriminatorConfig, STFTDiscriminatorConfig
from vqaudio.models import CodecConfig

Part = Literal["encoder", "quantizer", "decoder"]
Stage = Literal["reconstruction", "adversarial", "decoder"]
STAGES: tuple[Stage, ...] = ("reconstruction", "adversarial", "decoder")


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
    """AdamW with linear warm-up, a plateau, and a cosine that ends with the budget; and the average of the weights,
    which is what is validated, kept and shipped."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    warmup_steps: int = 100
    plateau: float = 0.0  # share of the budget before the cosine begins
    cosine: Literal["run", "stage"] = "run"  # one for all, or one for each stage, which then begins anew at full rate
    final_fraction: float = 0.02  # of the learning rate, at the end of the cosine
    clip_norm: float = 1.0
    average_decay: float = 0.999  # of the moving average of the weights; 0: the weights themselves

    def __post_init__(self) -> None:
        if not 0 <= self.plateau < 1 or not 0 <= self.average_decay < 1:
            raise ValueError(
                f"plateau {self.plateau} and average_decay {self.average_decay} must lie in 0 … 1, without 1"
            )


@dataclass(frozen=True, kw_only=True)
class StagesConfig:
    """Shares of the budget, in this order; they need not sum to 1.

    `reconstruction`: no discriminators. `adversarial`: the whole codec plays against them. `decoder`: the decoder does
    so alone; encoder and codebooks keep the averaged weights that they had at the end of the stage before, as stored.
    """

    reconstruction: float = 1.0
    adversarial: float = 0.0
    decoder: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.reconstruction, self.adversarial, self.decoder)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ValueError(f"shares of the budget are {shares}; they must not be negative, nor all zero")

    @property
    def plays(self) -> bool:
        return self.adversarial + self.decoder > 0

    def shares(self) -> dict[Stage, float]:
        """Every stage with its share; they sum to 1."""
        total = self.reconstruction + self.adversarial + self.decoder
        return {stage: getattr(self, stage) / total for stage in STAGES}

    def first_steps(self, total_steps: int) -> dict[Stage, int]:
        """The step at which each stage begins; where a stage is empty, that of the next."""
        done, first = 0.0, {}
        for stage, share in self.shares().items():
            first[stage] = round(done * total_steps)
            done += share
        return first

    def span(self, step: int, total_steps: int) -> tuple[int, int]:
        """The first step of the stage that `step` is in, and the first after it."""
        first = self.first_steps(total_steps)
        begin = first[self.at(step, total_steps)]
        return begin, min([other for other in first.values() if other > begin] + [total_steps])

    def at(self, step: int, total_steps: int) -> Stage:
        first = self.first_steps(total_steps)
        shares = self.shares()
        return [stage for stage in STAGES if first[stage] <= step and shares[stage] > 0][-1]


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The discriminators and how they learn. The weights of their verdicts and features are among the losses."""

    game: Literal["hinge", "least_squares"] = "hinge"
    period: PeriodDiscriminatorConfig = field(default_factory=PeriodDiscriminatorConfig)
    stft: STFTDiscriminatorConfig = field(default_factory=STFTDiscriminatorConfig)
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.8, 0.99)
    warmup_steps: int = 100  # of the discriminators' learning rate, and of what they say to the codec
    clip_norm: float = 1.0
    every: int = 1  # steps from game to game; those between are of reconstruction alone, at a third of the cost

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every is {self.every}; a game is played every so many steps, 1 or more")

    def build(self) -> Discriminators:
        return Discriminators([*self.period.build(), *self.stft.build()])


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How the same mathematics is computed. Not bit for bit the same, so it belongs to the recipe."""

    # of convolutions, in codec and discriminators; quantiser, spectra and losses are always float32
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False  # encoder, decoder and discriminators by torch.compile: minutes at the start, faster steps


@dataclass(frozen=True, kw_only=True)
class QuantizerSchedule:
    quantize_after: int = 150  # steps without quantiser, so that k-means starts on latents that mean something
    fit_batches: int = 24  # batches whose latents k-means sees; 10 vectors per code is enough
    dropout: float = 0.5  # share of items coded with a random number of codebooks (DAC: 0.5)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights; a term of weight 0 is not computed.

    `magnitudes_after` holds the terms that are deaf to phase (mel, magnitude, log_magnitude, compressed_magnitude) back
    for a while. Their gradients are several times larger; in short runs from random weights the waveform losses fell
    only without them. Later they may count for more: in the steps of `magnitudes_raised` they weigh `magnitudes_raise`
    times as much.
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
    compressed_magnitude: float = field(default=0.0, metadata=LATER)  # of magnitudes to the power of 0.3
    compressed_complex: float = field(default=0.0, metadata=LATER)
    stft_windows: tuple[int, ...] = (128, 512)
    waveform_l1: float = 0.1
    waveform_mse: float = 0.0
    mu_law: float = 0.0  # cross-entropy of a decoder over µ-law classes
    commitment: float = 0.25  # β
    codebook: float = 1.0
    residual: float = 1.0  # read-out of projected levels
    adversarial: float = 0.05  # the discriminators' verdicts
    feature_matching: float = 0.5

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

    def __post_init__(self) -> None:
        every = (self.log_every, self.validate_every, self.samples_every, self.checkpoint_every, self.keep_checkpoints)
        if min(every) < 1 or self.num_samples < 0:
            raise ValueError(
                f"log_every, validate_every, samples_every, checkpoint_every and keep_checkpoints are {every}; each "
                "must be at least 1. For never, give more than there are steps"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    seed: int = 0
    steps: int = 10_000  # budget, unless the command gives steps or minutes
    codec: CodecConfig = field(default_factory=CodecConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    quantizer: QuantizerSchedule = field(default_factory=QuantizerSchedule)
    stages: StagesConfig = field(default_factory=StagesConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    freeze: tuple[Part, ...] = ()  # parts that keep the weights they begin with, by --init-from
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        if (self.losses.mu_law > 0) != (self.codec.output == "mu_law"):
            raise ValueError("losses.mu_law and codec.output = 'mu_law' belong together: set both or neither")
        if self.steps < 1 or self.data.batch_size < 1 or self.crop_samples < 1:
            raise ValueError("steps, data.batch_size and data.crop_seconds must be positive")
        if set(self.freeze) == {"encoder", "quantizer", "decoder"}:
            raise ValueError("freeze names every part of the codec; nothing is left to train")
        if "decoder" in self.freeze and self.stages.decoder > 0:
            raise ValueError("freeze names the decoder, but stages.decoder trains it alone; leave one of them out")
        if self.stages.plays and self.codec.output == "mu_law":
            raise ValueError("a decoder over µ-law classes gives discriminators no gradient; leave the stages out")

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
