"""Finite scalar quantisation (Mentzer et al., arXiv 2309.15505): a grid instead of a learned codebook.

Each of a few projected dimensions is bounded and rounded to `levels[i]` values; their mixed-radix number is the code.
Nothing can collapse and nothing needs statistics. Several codebooks form a residual chain as in `residual.py`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vqaudio.quantize.base import straight_through
from vqaudio.quantize.residual import LevelOutput, ResidualQuantizer, principal_directions, read_out


@dataclass(frozen=True, kw_only=True)
class FSQConfig:
    kind: Literal["fsq"] = "fsq"
    dim: int = 128
    num_codebooks: int = 1
    levels: tuple[int, ...] = (8, 5, 5, 5)  # 1000 codes: the paper's table for about 2^10

    def __post_init__(self) -> None:
        if min(self.dim, self.num_codebooks) < 1:
            raise ValueError(f"dim {self.dim} and num_codebooks {self.num_codebooks} must be positive")
        # past 1000 the paper's margin of 1e-3 around the grid reaches half a step, and rounding one value too far
        if not self.levels or not all(2 <= count <= 1000 for count in self.levels):
            raise ValueError(f"levels are {self.levels}; each dimension needs 2 to 1000 values")
        if len(self.levels) > self.dim:
            raise ValueError(f"levels are {self.levels}, more dimensions than dim, {self.dim}")

    def build(self) -> ResidualQuantizer:
        return ResidualQuantizer(self.dim, [ScalarLevel(self.dim, self.levels) for _ in range(self.num_codebooks)])


class ScalarLevel(nn.Module):
    """One grid of prod(levels) codes in a projection of the latent space. Grid points lie in [-1, 1]."""

    projected = True

    def __init__(self, dim: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.size = math.prod(levels)
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)
        steps = torch.tensor(levels)
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("radix", torch.cumprod(torch.tensor((1, *levels[:-1])), dim=0), persistent=False)
        self.steps: Tensor
        self.radix: Tensor

    def _bounded(self, residual: Tensor) -> Tensor:
        """(M, D) -> (M, d) in the units of grid steps, so that rounding lands on exactly levels[i] values (eq. 1)."""
        half, offset, shift = self._bounds()
        out: Tensor = torch.tanh(self.project_in(residual) + shift) * half - offset
        return out

    def _bounds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each dimension: half the width of the grid, and, as even counts have no middle value, what is between the
        middle and grid point 0, in steps and before the tanh."""
        half = (self.steps - 1) * (1 + 1e-3) / 2
        offset = (self.steps % 2 == 0).float() * 0.5
        return half, offset, torch.atanh(offset / half)

    def _grid(self, digits: Tensor) -> Tensor:
        """Digits 0 … levels - 1 -> grid points in about [-1, 1]."""
        half = torch.div(self.steps, 2, rounding_mode="floor")
        return (digits - half) / half

    def _to_index(self, rounded: Tensor) -> Tensor:
        half = torch.div(self.steps, 2, rounding_mode="floor")
        return ((rounded.to(torch.int64) + half) * self.radix).sum(dim=-1)

    def forward(self, residual: Tensor) -> LevelOutput:
        bounded = self._bounded(residual)
        rounded = bounded.detach().round()
        half = torch.div(self.steps, 2, rounding_mode="floor")
        out = self.project_out(straight_through(rounded, bounded) / half)
        fit = (residual.detach() - self.project_out(rounded / half)).square().mean(dim=-1)
        return LevelOutput(out, self._to_index(rounded), {"residual": fit})

    def select(self, residual: Tensor) -> Tensor:
        return self._to_index(self._bounded(residual).round())

    def scores(self, residual: Tensor, indices: Tensor) -> Tensor:
        """(M, D), (M,) -> (M,): minus half the squared distance to given codes, in grid steps."""
        half = torch.div(self.steps, 2, rounding_mode="floor")
        digits = torch.div(indices.unsqueeze(-1), self.radix, rounding_mode="floor") % self.steps
        return -0.5 * (self._bounded(residual) - (digits - half)).square().sum(dim=-1)

    def embed(self, indices: Tensor) -> Tensor:
        digits = torch.div(indices.unsqueeze(-1), self.radix, rounding_mode="floor") % self.steps
        out: Tensor = self.project_out(self._grid(digits.to(self.project_out.weight.dtype)))
        return out

    def learn(self, residual: Tensor, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        return indices[:0]  # the grid is fixed

    def learned_rows(self) -> Tensor | None:
        return None

    @torch.no_grad()
    def fit(self, residual: Tensor, *, generator: torch.Generator) -> None:
        """Principal directions at a scale that fills the grid: one standard deviation falls at tanh(1) = 0.76."""
        mean, scales, directions = principal_directions(residual, len(self.steps))
        self.project_in.weight.copy_((directions / scales).t())
        # The mean falls in the middle of the grid; at grid point 0, one of two values would never be used.
        self.project_in.bias.copy_(-(mean @ directions) / scales - self._bounds()[2])
        read_out(self.project_out, self._grid_points(residual), residual)

    def _grid_points(self, residual: Tensor) -> Tensor:
        half = torch.div(self.steps, 2, rounding_mode="floor")
        return self._bounded(residual).round() / half
