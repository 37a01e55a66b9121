"""How much of a codebook is used."""

import torch
from torch import Tensor


class CodeUsage:
    """Counts codes as they come and tells use, entropy and perplexity of every codebook."""

    def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
        self.counts = [torch.zeros(size, dtype=torch.int64) for size in codebook_sizes]

    def add(self, codes: Tensor) -> None:
        """codes: (B, K, N) or (K, N), with no more codebooks than were announced."""
        rows = codes.movedim(-2, 0).reshape(codes.shape[-2], -1).cpu()
        for counts, row in zip(self.counts, rows, strict=False):
            counts += torch.bincount(row, minlength=len(counts))

    @property
    def used(self) -> list[int]:
        """Entries seen at least once, per codebook."""
        return [int((counts > 0).sum()) for counts in self.counts]

    @property
    def entropy_bits(self) -> list[float]:
        """Shannon entropy of the code distribution in bits per frame, per codebook; 0 before any code."""
        return [_entropy_bits(counts) for counts in self.counts]

    @property
    def perplexity(self) -> list[float]:
        """2 ** entropy: the number of equally likely codes that would carry as much, per codebook."""
        return [2.0**bits for bits in self.entropy_bits]


def _entropy_bits(counts: Tensor) -> float:
    total = counts.sum()
    if total == 0:
        return 0.0
    p = counts[counts > 0].double() / total
    return float(-(p * p.log2()).sum())
