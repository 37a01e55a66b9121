"""The nearest-code search of a projected residual quantiser with everything multiplied out that can be.

A level projects what the levels before it left over, z_k = W_k (r - out_1 - … - out_{k-1}) + b_k. Projections are
linear, so all of them are taken of the latents at once, and what a code chosen at level j takes away from z_k, which is
W_k out_j, is looked up in a table of V rows. What is left for each level is one thin matrix product against its codes,
the search for the largest score, and one row of a table for each frame: none of it in the width of the latents.

    z_1 … z_K  =  W r + b                                    one product for all levels
    scores     =  z_k · codes_k - ‖codes_k‖²/2               one product for each level
    z_k+1 … z_K  -=  table_k[best]                           rows of W out_k

Mathematically the codes are those of `ResidualQuantizer.encode`; rounding differs.
"""

from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio.quantize.residual import ResidualQuantizer, VectorLevel
from vqaudio.quantize.vq import first_largest


class FoldedQuantizer:
    """`quantizer` as its weights are now: latents (N, D) <-> codes (N, K), without gradients."""

    def __init__(self, quantizer: ResidualQuantizer) -> None:
        levels = _levels(quantizer)
        self._weights = [tensor.detach().clone() for tensor in _tensors(quantizer)]
        with torch.no_grad():
            widths = [level.project_in.out_features for level in levels]
            self._ends = torch.tensor([0, *widths]).cumsum(0).tolist()
            self._projection = (
                torch.cat([level.project_in.weight for level in levels]).t().contiguous()
            )  # (D, sum of d)
            self._offset = torch.cat([level.project_in.bias for level in levels])
            codes = [level.table.codes for level in levels]
            self._codes = [table.t().contiguous() for table in codes]  # (d, V)
            self._biases = [-0.5 * table.square().sum(dim=-1) for table in codes]
            outputs = [quantizer.codebook(index) for index in range(len(levels))]  # (V, D)
            self._tables = [
                (output @ self._projection[:, end:]).contiguous()
                for output, end in zip(outputs, self._ends[1:], strict=True)
            ]
            self._outputs = torch.cat(outputs)  # (K · V, D)
            sizes = torch.tensor([0, *quantizer.codebook_sizes[:-1]])
            self._starts = sizes.cumsum(0)  # where each level's rows begin
        self._normalized = [level.table.normalized for level in levels]

    @staticmethod
    def can_fold(quantizer: object) -> TypeGuard[ResidualQuantizer]:
        """Whether all levels of a quantiser are projected to codebooks."""
        return isinstance(quantizer, ResidualQuantizer) and len(_levels(quantizer)) == len(quantizer.levels)

    def holds(self, quantizer: ResidualQuantizer) -> bool:
        """Whether the quantiser's weights are still those that were folded, number by number."""
        return all(map(torch.equal, self._weights, _tensors(quantizer)))

    @torch.no_grad()
    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """(N, D) -> (N, K)."""
        z = torch.addmm(self._offset, latents, self._projection)
        codes = torch.empty(len(latents), num_codebooks, dtype=torch.int64)
        for k in range(num_codebooks):
            inputs = self._normalized[k](z[:, self._ends[k] : self._ends[k + 1]])
            best = first_largest(torch.addmm(self._biases[k], inputs, self._codes[k]))
            codes[:, k] = best
            if k + 1 < num_codebooks:
                z[:, self._ends[k + 1] :] -= F.embedding(best, self._tables[k])
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """(N, k) for any k up to K, in range -> (N, D)."""
        return F.embedding_bag(codes + self._starts[: codes.shape[1]], self._outputs, mode="sum")


def _levels(quantizer: ResidualQuantizer) -> list[VectorLevel]:
    """Those that can be folded."""
    return [level for level in quantizer.levels if isinstance(level, VectorLevel) and level.projected]


def _tensors(quantizer: ResidualQuantizer) -> list[Tensor]:
    """What the codes depend on, without the running statistics of training."""
    return [tensor for name, tensor in quantizer.state_dict().items() if not name.endswith(("ema_counts", "ema_sums"))]
