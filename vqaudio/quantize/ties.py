"""Near-ties: when two programs may rightly choose different codes.

Sums of floats depend on their order, and so on the machine, the device and the length of a block. A frame that lies
about as near to one code as to another can fall either way; at the levels below it, everything then differs. So where
two lists of codes of the same audio differ, only the first differing level of a frame tells: the scores of its two
codes are compared in float64, and a gap of more than `NEAR_TIE` is no rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vqaudio.quantize.residual import ResidualQuantizer
from vqaudio.quantize.vq import VectorQuantizer

NEAR_TIE = 1e-4  # of scores x·e - ‖e‖²/2, or half squared grid steps


@torch.no_grad()
def first_gaps(quantizer: ResidualQuantizer | VectorQuantizer, latents: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """How far apart, in score, codes a and b (K, N) of one recording are at the first difference of each frame.

    `quantizer` and `latents` (D, N) are float64. The result has one entry for each frame that differs.
    """
    frames = (a != b).any(dim=0).nonzero().flatten()
    residual = latents.t()[frames]  # (M, D)
    gaps = residual.new_full((len(frames),), torch.nan)
    chain: Sequence[Any] = quantizer.chain
    for level, of_a, of_b in zip(chain, a[:, frames], b[:, frames], strict=False):
        gap = (level.scores(residual, of_a) - level.scores(residual, of_b)).abs()
        gaps = torch.where((of_a != of_b) & gaps.isnan(), gap, gaps)
        residual = residual - level.embed(of_a)  # of no meaning where the gap is known
    return gaps
