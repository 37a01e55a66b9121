"""Point-wise layers: they look at one frame at a time and so keep no stream state."""

from typing import Any

import torch
from torch import Tensor, nn

from vqaudio.nn.layer import Layer


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, or if autocast has made it bfloat16 or float16, its values in float32: a level there has two digits."""
    return x.float() if x.element_size() < 4 else x


class Snake(Layer):
    """x + sin²(αx)/α with one learned α per channel, for periodic signals (Ziyin et al., arXiv 2006.08195, eq. 3).

    (B, C, T) in and out. Snake(0) = 0, so silence stays silence.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.positive_alpha()
        if torch.compiler.is_compiling():  # which writes a backward of its own
            return x + (alpha * x).sin().square() / alpha
        out: Tensor = _Snake.apply(x, alpha)
        return out

    def positive_alpha(self) -> Tensor:
        """(C, 1). |α| is kept off zero: the limit α -> 0 is the identity, but the quotient is 0/0 there."""
        return self.alpha.abs() + 1e-4


class _Snake(torch.autograd.Function):
    """The same arithmetic with a backward written out: autograd's own keeps four intermediates of the size of x and
    takes twice the time, and on a CPU that is a third of a training step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha)
        return (alpha * x).sin_().square_().mul_(1.0 / alpha).add_(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        # d/dx = 1 + sin 2αx;  d/dα = (x sin 2αx - sin²(αx)/α) / α, with sin² = (1 - cos 2αx) / 2
        x, alpha = ctx.saved_tensors
        (grad,) = grads
        doubled = (2.0 * alpha) * x
        sine = doubled.sin()
        over_alpha = doubled.cos_().sub_(1.0).mul_(0.5 / alpha).addcmul_(x, sine).mul_(grad)
        grad_alpha = over_alpha.sum(dim=(0, 2)).unsqueeze(-1) / alpha
        return sine.add_(1.0).mul_(grad), grad_alpha


class ChannelNorm(Layer):
    """Each frame divided by the root mean square of its channels (RMSNorm, arXiv 1910.07467), with learned gains.

    (B, C, T) in and out; statistics are those of one frame, so that streams and batches see the same numbers. It takes
    the level out of the signal, which lets quiet speech use the same latents as loud speech.
    """

    # About -60 dBFS where it is used: keeps silence at zero, and gradients through it bounded
    EPSILON = 1e-4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = at_least_float32(x)
        mean_square = x.square().mean(dim=1, keepdim=True)
        return x * torch.rsqrt(mean_square + self.EPSILON) * self.gain


class LevelCompressor(Layer):
    """Each frame's level (root mean square over channels) raised to the power 1/2: 60 dB of loudness become 30 dB.

    (B, C, T) in and out. The encoder ends with it and the decoder starts with `LevelExpander`, as
    µ-law companding brackets a uniform quantiser: quiet frames get codes of their own instead of sharing one with
    silence, while the chain as a whole stays linear, so a waveform's level costs the network nothing to carry.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = at_least_float32(x)
        return x * (x.square().mean(dim=1, keepdim=True) + _LEVEL_FLOOR).pow(-0.25)


class LevelExpander(Layer):
    """Each frame times its own level: what undoes `LevelCompressor`, to half a decibel down to -50 dB (mean square over
    channels of what it compresses). Below, where both turn linear, it makes quiet frames quieter: by 3 dB at -60."""

    def forward(self, x: Tensor) -> Tensor:
        x = at_least_float32(x)
        return x * (x.square().mean(dim=1, keepdim=True) + _LEVEL_FLOOR).sqrt()


# Mean square below which companding turns linear, so that the slope at silence is finite (32).
_LEVEL_FLOOR = 1e-6
