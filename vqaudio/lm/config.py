"""A recipe of a language model: everything that decides a run (`recipes/lm_speech/recipe.toml`), with its defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vqaudio.config import apply_overrides, from_dict, load_toml


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """A decoder-only transformer, transformers' `LlamaModel`, over the ids of a token space."""

    width: int = 256
    num_layers: int = 6
    num_heads: int = 4
    hidden: int = 704  # of the gated feed-forward layers; 8/3 of the width has as many weights as two layers of 4
    dropout: float = 0.1  # of the embeddings that go in and of what the heads read
    code_dropout: float = 0.1  # share of codes that go in as nothing, so that no single one is leaned on
    codebook_start: bool = True  # embeddings and heads begin as the codec's own vectors, so that like codes are alike

    def __post_init__(self) -> None:
        if min(self.width, self.num_layers, self.num_heads, self.hidden) < 1:
            raise ValueError("width, num_layers, num_heads and hidden are 1 or more")
        if self.width % (2 * self.num_heads):
            raise ValueError(f"width {self.width} is no multiple of 2 * num_heads ({2 * self.num_heads})")
        if not (0 <= self.dropout < 1 and 0 <= self.code_dropout < 1):
            raise ValueError(f"dropout {self.dropout} and code_dropout {self.code_dropout} lie in 0 … 1, without 1")


@dataclass(frozen=True, kw_only=True)
class LMDataConfig:
    window_seconds: float = 6.0  # of a training window, and as far as the model ever looks back
    batch_size: int = 4


@dataclass(frozen=True, kw_only=True)
class LMOptimizerConfig:
    """AdamW with linear warm-up and a cosine over the budget."""

    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1  # of matrices; vectors have none
    warmup_steps: int = 60
    final_fraction: float = 0.05  # of the learning rate, at the end of the cosine
    clip_norm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LMReportConfig:
    log_every: int = 10  # steps
    validate_every: int = 200
    validation_recordings: int = 64  # evenly picked
    checkpoint_every: int = 200
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        if min(self.log_every, self.validate_every, self.checkpoint_every, self.keep_checkpoints) < 1:
            raise ValueError("log_every, validate_every, checkpoint_every and keep_checkpoints are 1 or more")


@dataclass(frozen=True, kw_only=True)
class LMRecipe:
    name: str
    tokenizer: str = "speech-16k"  # name or folder; the one place where a recipe says which
    num_codebooks: int = 3  # the first ones; the others are neither written nor read
    layout: Literal["delay", "flat"] = "delay"
    seed: int = 0
    steps: int = 2000
    model: LMConfig = field(default_factory=LMConfig)
    data: LMDataConfig = field(default_factory=LMDataConfig)
    optimizer: LMOptimizerConfig = field(default_factory=LMOptimizerConfig)
    report: LMReportConfig = field(default_factory=LMReportConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.data.batch_size < 1 or self.data.window_seconds <= 0 or self.num_codebooks < 1:
            raise ValueError("steps, num_codebooks, data.batch_size and data.window_seconds must be positive")


def load_lm_recipe(path: str | Path, overrides: Mapping[str, str] | None = None) -> LMRecipe:
    """The recipe in a TOML file (or in the folder that holds recipe.toml), with dotted overrides applied."""
    path = Path(path)
    path = path / "recipe.toml" if path.is_dir() else path
    return from_dict(LMRecipe, apply_overrides(load_toml(path), overrides or {}))
