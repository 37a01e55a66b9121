"""What a discriminator is here: (B, 1, T) -> the feature maps of its layers, of which the last is its verdict.

Verdicts are maps, one number for each place and time that the discriminator looks at: high for what it takes to be
real. All discriminators of a game are called together and know nothing of each other.
"""

from typing import Protocol

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Features = list[Tensor]


class Discriminator(Protocol):
    def __call__(self, audio: Tensor) -> Features: ...


class Discriminators(nn.Module):
    """Several of them: (B, 1, T) -> one list of features for each."""

    def __init__(self, discriminators: list[nn.Module]) -> None:
        super().__init__()
        if not discriminators:
            raise ValueError("an adversarial game needs at least one discriminator; give periods or windows")
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, audio: Tensor) -> list[Features]:
        return [discriminator(audio) for discriminator in self.discriminators]


def normed(conv: nn.Conv1d | nn.Conv2d) -> nn.Module:
    """`conv` with weight norm (arXiv 1602.07868) around the weights it has now."""
    out: nn.Module = weight_norm(conv)
    return out
