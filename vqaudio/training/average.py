"""The moving average of a codec's weights: what a run validates, keeps and ships (Polyak averaging)."""

import copy

import torch
from torch import nn

from vqaudio.models import Codec

# Until this many steps have passed the window is shorter, or the average would still be the random start.
_SHORT = 10


class Average:
    """`codec` is the averaged one, in evaluation mode and without gradients.

    Codebooks that learn by moving averages are averaged with the weights that feed them; their running counts and sums,
    which serve training alone, are those of the last step. A decay of 0 makes the average the codec itself.
    """

    def __init__(self, codec: Codec, decay: float) -> None:
        self.decay = decay
        self.codec = copy.deepcopy(codec).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, codec: Codec, step: int) -> None:
        """After step number `step` of the run, counted from 1."""
        decay = min(self.decay, step / (step + _SHORT)) if self.decay else 0.0
        with_weights = dict(_averaged(codec))
        for name, value in _averaged(self.codec):
            value.lerp_(with_weights[name], 1.0 - decay)
        for (name, value), (_, new) in zip(self.codec.named_buffers(), codec.named_buffers(), strict=True):
            if name not in with_weights:
                value.copy_(new)


def _averaged(codec: nn.Module) -> list[tuple[str, torch.Tensor]]:
    vectors = [(name, buffer) for name, buffer in codec.named_buffers() if name.endswith(".vectors")]
    return [(name, parameter.data) for name, parameter in codec.named_parameters()] + vectors
