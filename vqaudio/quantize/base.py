"""What every quantiser promises, and the two ways in which a gradient passes one.

`quantizer(latents)` is the training form: it returns quantised latents that gradients pass through, and may move
codebook statistics while `quantizer.training`. `encode` and `decode` are pure: no buffer changes, no random number is
drawn, no gradient is needed, and their result does not depend on the mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reborn:
    """Rows (R,) of a codebook (V, d) that is a parameter, which a batch revived. Their gradients and their optimiser's
    moments belong to the `dead` vectors (R, d) that were there before, and must be cleared."""

    vectors: Tensor
    rows: Tensor
    dead: Tensor

    def undo(self) -> None:
        """For a batch that turns out to be bad after all."""
        self.vectors.data[self.rows] = self.dead


@dataclass(frozen=True)
class Quantized:
    """The training form's result.

    latents (B, D, N), through which a gradient reaches those that went in; codes (B, K, N) int64; losses and stats by
    name, as scalars or one value per codebook, unweighted (weights live in the recipe); revived: of codebooks that
    learn by gradient.
    """

    latents: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    revived: tuple[Reborn, ...] = field(default=())


class Quantizer(Protocol):
    """Latents (B, D, N) <-> codes (B, K, N)."""

    dim: int
    codebook_sizes: tuple[int, ...]

    def __call__(
        self,
        latents: Tensor,
        *,
        num_codebooks: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized: ...

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor: ...

    def decode(self, codes: Tensor) -> Tensor: ...

    def codebook(self, index: int) -> Tensor: ...

    def fit(self, latents: Tensor, *, generator: torch.Generator) -> None: ...


def straight_through(quantized: Tensor, latents: Tensor) -> Tensor:
    """`quantized` in value, the identity on `latents` in gradient (Bengio et al., arXiv 1308.3432)."""
    return latents + (quantized - latents).detach()


def rotated(quantized: Tensor, latents: Tensor) -> Tensor:
    """`quantized` in value; in gradient that of rotating and scaling `latents` onto it (rotation trick, arXiv
    2410.06424, eq. 4 and 6), (M, d) both.

    The gradient at the code is turned back by the angle between the two and scaled by the ratio of their lengths, so
    that latents of one code no longer all move alike. A row where either is (nearly) zero has no angle, one whose code
    points the opposite way no axis: these are straight through.
    """
    with torch.no_grad():
        lengths = [x.norm(dim=-1, keepdim=True) for x in (latents, quantized)]
        z, q = (x / length.clamp(min=_SHORTEST) for x, length in zip((latents, quantized), lengths, strict=True))
        middle = z + q
        between = middle.norm(dim=-1, keepdim=True)
        middle = middle / between.clamp(min=_SHORTEST)
        scale = lengths[1] / lengths[0].clamp(min=_SHORTEST)
        turns = (lengths[0] > _SHORTEST) & (lengths[1] > _SHORTEST) & (between > _SHORTEST)
    # R = I - 2 m mᵀ + 2 q zᵀ, m between unit z and q: two reflections
    onto_middle = (latents * middle).sum(dim=-1, keepdim=True)
    onto_latents = (latents * z).sum(dim=-1, keepdim=True)
    turned = scale * (latents - 2 * onto_middle * middle + 2 * onto_latents * q)
    return straight_through(quantized, torch.where(turns, turned, latents))


Through = Literal["straight_through", "rotation"]
THROUGH: dict[Through, Callable[[Tensor, Tensor], Tensor]] = {
    "straight_through": straight_through,
    "rotation": rotated,
}
_SHORTEST = 1e-6  # of a vector, or of the sum of two unit vectors, that still has a direction


def active_codebooks(num_codebooks: int | Tensor | None, *, total: int, batch: int, device: torch.device) -> Tensor:
    """The number of codebooks each item uses, (B,) int64: all, the same for every item, or one number per item."""
    if num_codebooks is None:
        num_codebooks = total
    if isinstance(num_codebooks, int):
        check_num_codebooks(num_codebooks, total)
        return torch.full((batch,), num_codebooks, device=device)
    if num_codebooks.shape != (batch,):
        raise ValueError(f"num_codebooks has shape {tuple(num_codebooks.shape)}; one number per item is ({batch},)")
    wrong = num_codebooks[(num_codebooks < 1) | (num_codebooks > total)]
    if len(wrong):
        check_num_codebooks(int(wrong[0]), total)
    return num_codebooks.to(device)


def check_num_codebooks(num_codebooks: int | None, total: int) -> int:
    if num_codebooks is None:
        return total
    if isinstance(num_codebooks, bool) or not isinstance(num_codebooks, Integral):
        raise ValueError(f"num_codebooks is {num_codebooks!r}; it must be an integer, 1 to {total}")
    if not 1 <= num_codebooks <= total:
        raise ValueError(f"num_codebooks is {num_codebooks}; this quantiser has codebooks 1 to {total}")
    return int(num_codebooks)


def check_level(index: int, total: int) -> None:
    if not 0 <= index < total:
        raise ValueError(f"there is no codebook {index}; this quantiser has 0 to {total - 1}")


def check_rows(latents: Tensor, dim: int) -> None:
    """Refuse what k-means cannot start from."""
    if latents.ndim != 2 or latents.shape[1] != dim or len(latents) == 0:
        raise ValueError(f"latents to start from have shape {tuple(latents.shape)}; expected (frames > 0, {dim})")
    if not latents.isfinite().all():
        raise ValueError("latents to start from hold NaN or infinity")


def check_latents(latents: Tensor, dim: int) -> None:
    if latents.ndim != 3 or latents.shape[1] != dim:
        raise ValueError(f"latents have shape {tuple(latents.shape)}; expected (batch, {dim}, frames)")


def check_codes(codes: Tensor, codebook_sizes: tuple[int, ...]) -> None:
    """Refuse codes of a wrong shape, type or range before they index anything."""
    if codes.ndim != 3 or not 1 <= codes.shape[1] <= len(codebook_sizes):
        raise ValueError(
            f"codes have shape {tuple(codes.shape)}; expected (batch, codebooks, frames) with 1 to "
            f"{len(codebook_sizes)} codebooks"
        )
    if codes.dtype != torch.int64:
        raise ValueError(f"codes have dtype {codes.dtype}; expected torch.int64")
    if codes.numel() == 0:
        return
    sizes = torch.tensor(codebook_sizes[: codes.shape[1]], device=codes.device).view(1, -1, 1)
    wrong = ((codes < 0) | (codes >= sizes)).nonzero()
    if len(wrong):
        item, level, frame = wrong[0].tolist()
        raise ValueError(
            f"code {codes[item, level, frame].item()} at item {item}, codebook {level}, frame {frame} is outside "
            f"0 … {codebook_sizes[level] - 1}"
        )
