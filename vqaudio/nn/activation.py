"""Point-wise layers: they look at one frame at a time and so keep no stream state."""

from typing import Any

import torch
from torch import Tensor, nn


class Snake(nn.Module):
    """x + sin²(αx)/α with one learned α per channel, for periodic signals (Ziyin et al., arXiv 2006.08195, eq. 3).

    (B, C, T) in and out. Snake(0) = 0, so silence stays silence.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        # |α| is kept off zero: the limit α -> 0 is the identity, but the quotient is 0/0 there
        alpha = self.alpha.abs() + 1e-4
        out: Tensor = _Snake.apply(x, alpha)
        return out


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


class ChannelNorm(nn.Module):
    """Each frame divided by the root mean square of its channels (RMSNorm, arXiv 1910.07467), with learned gains.

    (B, C, T) in and out; statistics are those of one frame, so that streams and batches see the same numbers. It takes
    the level out of the signal, which lets quiet speech use the same latents as loud speech.
    """

    # Far below the quietest recording's latents; keeps digital silence at exactly zero.
    EPSILON = 1e-6

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean_square = x.square().mean(dim=1, keepdim=True)
        return x * torch.rsqrt(mean_square + self.EPSILON) * self.gain
