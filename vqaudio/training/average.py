"""The moving average of a codec's weights: what a run validates, keeps and ships (Polyak averaging)."""

import copy

import torch

from vqaudio.models import Codec
from vqaudio.quantize import Codebook

# Until this many steps have passed the window is shorter, or the average would still be the random start.
_SHORT = 10


class Average:
    """`codec` is the averaged one, in evaluation mode and without gradients.

    Codes are those of the last step: in codebooks that learn by moving averages they are averages already, and one that
    is revived here and there in the window would be averaged over places that have nothing to do with each other. A
    decay of 0 makes the average the codec itself.
    """

    def __init__(self, codec: Codec, decay: float) -> None:
        self.decay = decay
        self.codec = copy.deepcopy(codec).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, codec: Codec, step: int) -> None:
        """After step number `step` of the run, counted from 1."""
        decay = min(self.decay, step / (step + _SHORT)) if self.decay else 0.0
        for mine, module in zip(self.codec.modules(), codec.modules(), strict=True):
            learns_codes = isinstance(mine, Codebook) and mine.update == "gradient"
            for value, new in zip(mine.parameters(recurse=False), module.parameters(recurse=False), strict=True):
                value.lerp_(new, 1.0 if learns_codes else 1.0 - decay)
        for kept, newest in zip(self.codec.buffers(), codec.buffers(), strict=True):
            kept.copy_(newest)
