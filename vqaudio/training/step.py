"""One training step, on one page: the codec's losses, the game with the discriminators, one update of each.

Codec and discriminators move at the same time, each against the other as it was. So nothing is computed twice, and
nothing moves before both losses and both gradients are known to be finite.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqaudio import ranks
from vqaudio.losses import (
    Game,
    MultiResolutionSTFT,
    MultiScaleMel,
    adversarial_loss,
    discriminator_loss,
    feature_matching,
    mu_law_cross_entropy,
    waveform_l1,
    waveform_mse,
)
from vqaudio.models import CodecOutput
from vqaudio.training.recipe import LossConfig

_MAGNITUDES = ("mel", "magnitude", "log_magnitude", "compressed_magnitude")


class Objective(nn.Module):
    """The weighted sum of a recipe's losses. Returns it with every unweighted part by name."""

    def __init__(self, config: LossConfig, sample_rate: int, *, game: Game = "hinge") -> None:
        super().__init__()
        self.config, self.game = config, game
        self.mel = MultiScaleMel(sample_rate, windows=config.mel_windows, num_mels=config.num_mels)
        compressed = config.compressed_magnitude > 0 or config.compressed_complex > 0
        self.stft = MultiResolutionSTFT(windows=config.stft_windows, compressed=compressed)

    def forward(
        self, output: CodecOutput, audio: Tensor, *, magnitudes: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All parts are returned as they are; in the sum those deaf to phase count `magnitudes` times."""
        weights, parts = self.config, {}
        if weights.mel:
            parts["mel"] = self.mel(output.audio, audio)
        if weights.magnitude or weights.log_magnitude or weights.complex or self.stft.compressed:
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

    def of_sound(self, output: CodecOutput, parts: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the parts that compare sounds. Those of the quantiser grow with the latents, and so say
        nothing of which of two codecs is better."""
        names = [name for name in parts if name not in output.losses]
        return torch.stack([getattr(self.config, name) * parts[name] for name in names]).sum()

    def play(
        self, real: list[list[Tensor]], fake: list[list[Tensor]], *, ramp: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """From the discriminators' features: what the codec adds to its loss, what they lower, and the parts."""
        parts = {
            "adversarial": adversarial_loss(fake, game=self.game),
            "feature_matching": feature_matching(fake, real),
        }
        added = ramp * sum(getattr(self.config, name) * value for name, value in parts.items())
        lowered = discriminator_loss(real, fake, game=self.game)
        return added, lowered, {**parts, "discriminator": lowered}


@dataclass
class Player:
    """A network that learns: the codec, or the discriminators."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    clip_norm: float

    @property
    def learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the schedules say of one step."""

    num_codebooks: Tensor | None = None  # of each item (B,); None: all
    quantize: bool = True
    magnitudes: float = 1.0  # factor on the losses deaf to phase
    play: bool = False  # with the discriminators
    ramp: float = 1.0  # factor on what they say to the codec
    precision: torch.dtype = torch.float32  # of convolutions


@dataclass(frozen=True)
class StepResult:
    ok: bool  # False: something was not finite, and nothing was changed
    parts: dict[str, Tensor]
    stats: dict[str, Tensor]


def train_step(
    codec: Player,
    objective: Objective,
    audio: Tensor,
    plan: Plan,
    *,
    discriminators: Player | None = None,
    generator: torch.Generator | None = None,
    weight: float = 1.0,
) -> StepResult:
    """One update of codec and, where the plan says so, of discriminators, on audio (B, 1, T).

    A batch, loss or gradient that is not finite leaves every parameter as it was; the running averages of codebooks may
    then have seen the batch, but only latents that were finite. `weight` is this process's share of the whole batch, 1
    for a process alone. `generator` revives codes.
    """
    for player in filter(None, (codec, discriminators)):
        player.optimizer.zero_grad(set_to_none=True)
    if not ranks.agreed(audio.isfinite().all(), device=audio.device):
        return StepResult(False, {}, {})

    mixed = torch.autocast(audio.device.type, dtype=plan.precision, enabled=plan.precision != torch.float32)
    with mixed:
        output: CodecOutput = codec.network(
            audio, num_codebooks=plan.num_codebooks, generator=generator, quantize=plan.quantize
        )
    total, parts = objective(output, audio, magnitudes=plan.magnitudes)
    parts = {"loss": total, **parts}  # of the reconstruction alone, so that it means the same in every stage
    lowered = None
    if plan.play and discriminators is not None:
        with mixed:
            real, fake = discriminators.network(audio), discriminators.network(output.audio)
        added, lowered, played = objective.play(real, fake, ramp=plan.ramp)
        total, parts = total + added, {**parts, **played}
    finite = torch.stack([value.detach() for value in parts.values()]).isfinite().all()
    if not ranks.agreed(finite, device=audio.device):
        return _skipped(output, parts, weight)

    # each loss reaches its own player's parameters and no others
    moving = [codec]
    if lowered is not None and discriminators is not None:
        moving.append(discriminators)
        lowered.backward(retain_graph=True, inputs=discriminators.learning)
    if codec.learning:  # all but codebooks that move by averages may be frozen
        total.backward(inputs=codec.learning)
    names = ("gradient_norm", "discriminator_gradient_norm")
    for name, player in zip(names, moving, strict=False):
        _average_gradients(player.learning, weight)
        parts[name] = nn.utils.clip_grad_norm_(player.learning, player.clip_norm)
        if not parts[name].isfinite():  # the same on every rank
            return _skipped(output, parts, weight)

    for reborn in output.revived:  # a code must inherit neither gradient nor momentum of the dead one
        assert isinstance(reborn.vectors, nn.Parameter)
        if reborn.vectors.grad is not None:
            reborn.vectors.grad[reborn.rows] = 0.0
        for name, moment in codec.optimizer.state.get(reborn.vectors, {}).items():
            if name != "step":
                moment[reborn.rows] = 0.0
    for player in moving:
        player.optimizer.step()
    return StepResult(True, _values(parts, weight), output.stats)


def _skipped(output: CodecOutput, parts: dict[str, Tensor], weight: float) -> StepResult:
    """What was revived on the way is put back."""
    for reborn in output.revived:
        reborn.undo()
    return StepResult(False, _values(parts, weight), output.stats)


def _values(parts: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Those of the whole batch, on every rank."""
    if ranks.count() == 1:
        return {name: value.detach() for name, value in parts.items()}
    values = [value.detach() * weight for value in parts.values()]
    ranks.sum_over_ranks(values)
    return dict(zip(parts, values, strict=True))


def _average_gradients(parameters: list[nn.Parameter], weight: float) -> None:
    """The gradient of the whole batch on every rank. A parameter that no rank used keeps none, so that the optimiser
    passes it over as it would alone."""
    if ranks.count() == 1:
        return
    used = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=parameters[0].device)
    ranks.sum_over_ranks([used])
    chosen = [parameter for parameter, count in zip(parameters, used.tolist(), strict=True) if count]
    for parameter in chosen:
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.mul_(weight)
    ranks.sum_over_ranks([parameter.grad for parameter in chosen if parameter.grad is not None])
