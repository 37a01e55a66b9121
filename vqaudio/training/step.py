"""One training step: the weighted objective, the update with its guard, and the schedules that depend on the step."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vqaudio.losses import MultiResolutionSTFT, MultiScaleMel, mu_law_cross_entropy, waveform_l1, waveform_mse
from vqaudio.models import Codec, CodecOutput
from vqaudio.training.recipe import LossConfig, Recipe

_MAGNITUDES = ("mel", "magnitude", "log_magnitude")


class Objective(nn.Module):
    """The weighted sum of a recipe's losses. Returns it with every unweighted part by name."""

    def __init__(self, config: LossConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.mel = MultiScaleMel(sample_rate, windows=config.mel_windows, num_mels=config.num_mels)
        self.stft = MultiResolutionSTFT(windows=config.stft_windows)

    def forward(
        self, output: CodecOutput, audio: Tensor, *, magnitudes: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All parts are returned as they are; in the sum those deaf to phase count `magnitudes` times."""
        weights, parts = self.config, {}
        if weights.mel:
            parts["mel"] = self.mel(output.audio, audio)
        if weights.magnitude or weights.log_magnitude or weights.complex:
            parts.update(self.stft(output.audio, audio))
        if weights.waveform_l1:
            parts["waveform_l1"] = waveform_l1(output.audio, audio)
        if weights.waveform_mse:
            parts["waveform_mse"] = waveform_mse(output.audio, audio)
        if weights.mu_law:
            assert output.logits is not None
            parts["mu_law"] = mu_law_cross_entropy(output.logits, audio)
        parts.update({name: loss.mean() for name, loss in output.losses.items()})  # mean over codebooks
        factors = {name: magnitudes if name in _MAGNITUDES else 1.0 for name in parts}
        terms = (factors[name] * getattr(weights, name) * value for name, value in parts.items())
        total = sum(terms, audio.new_zeros(()))
        return total, parts


@dataclass(frozen=True)
class StepResult:
    ok: bool  # False: something was not finite, and nothing was changed
    parts: dict[str, Tensor]
    stats: dict[str, Tensor]


def train_step(
    codec: Codec,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    audio: Tensor,
    *,
    num_codebooks: Tensor | None,
    generator: torch.Generator,
    quantize: bool = True,
    magnitudes: float = 1.0,
    clip_norm: float,
) -> StepResult:
    """One update on audio (B, 1, T). A batch, loss or gradient that is not finite leaves every parameter as it was; the
    running averages of codebooks may then have seen the batch, but only latents that were finite."""
    if not audio.isfinite().all():
        return StepResult(False, {}, {})
    optimizer.zero_grad(set_to_none=True)
    output = codec(audio, num_codebooks=num_codebooks, generator=generator, quantize=quantize)
    total, parts = objective(output, audio, magnitudes=magnitudes)
    parts = {"loss": total, **parts}
    if not total.isfinite():
        return StepResult(False, parts, output.stats)
    total.backward()
    parts["gradient_norm"] = nn.utils.clip_grad_norm_(codec.parameters(), clip_norm)
    if not parts["gradient_norm"].isfinite():
        return StepResult(False, parts, output.stats)
    optimizer.step()
    for parameter, rows in output.revived:  # a reborn code must not inherit the momentum of the dead one
        for name, moment in optimizer.state[parameter].items():
            if name != "step":
                moment[rows] = 0.0
    return StepResult(True, {name: value.detach() for name, value in parts.items()}, output.stats)


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Linear warm-up times a cosine that reaches `final_fraction` at the end of the budget."""
    config = recipe.optimizer
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(step / total_steps, 1.0)))
    return config.learning_rate * warmup * (config.final_fraction + (1.0 - config.final_fraction) * cosine)


def dropped_codebooks(recipe: Recipe, first_item: int, batch_size: int, num_codebooks: int) -> Tensor:
    """How many codebooks each item of a batch uses, (B,): drawn per global item index, so ranks and resume agree."""
    counts = []
    for index in range(first_item, first_item + batch_size):
        # same key as the item's crop, another part of its counter
        bits = np.random.Philox(key=np.array([recipe.seed, index], dtype=np.uint64), counter=[0, 0, 0, 1])
        draw = np.random.Generator(bits)
        kept = int(draw.integers(1, num_codebooks + 1))
        counts.append(kept if draw.random() < recipe.quantizer.dropout else num_codebooks)
    return torch.tensor(counts)
