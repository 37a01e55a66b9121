"""Split: the first codebooks for one model, the others for a second one, as in VALL-E and AudioLM.

VALL-E (arXiv 2301.02111) lets an autoregressive model write codebook 1, and a second one, not autoregressive, fill in
codebooks 2 to 8 one after the other, each for all frames at once:

    coarse    a0 a1 a2 a3        Flat over the first `num_coarse` codebooks, (L,)
    fine      b0 b1 b2 b3        Parallel over the others, (K - num_coarse, N): row j is what stage j fills in
              c0 c1 c2 c3

With `fine_kind="flat"` the second model is one that writes tokens too, as AudioLM's fine stage (arXiv 2209.03143).
Each half is a layout of its own, with its own ids from 0 on and its own specials, since each is a model of its own.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vqaudio.layouts.flat import Flat
from vqaudio.layouts.index_map import TokenError, integers
from vqaudio.layouts.reading import Policy, Problem, Reading, TokenWarning
from vqaudio.layouts.stacked import Parallel


class SplitTokens(NamedTuple):
    """The two sequences of one recording, or of a batch of equal lengths."""

    coarse: Tensor  # (L,) or (B, L)
    fine: Tensor  # as `Split.fine` has it


@dataclass(frozen=True, kw_only=True)
class Split:
    """Codes <-> a coarse and a fine sequence."""

    kind: Literal["split"] = "split"
    codebook_sizes: tuple[int, ...]
    num_coarse: int = 1  # codebooks
    fine_kind: Literal["parallel", "flat"] = "parallel"
    extra_specials: tuple[str, ...] = ()  # of both halves

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
        K = len(self.codebook_sizes)
        if not 1 <= self.num_coarse < K:
            raise TokenError(f"num_coarse is {self.num_coarse}; of {K} codebooks, 1 to {K - 1} can be coarse")
        if self.fine_kind not in ("parallel", "flat"):
            raise TokenError(f"fine_kind is {self.fine_kind!r}; expected parallel or flat")
        for half in (self.coarse, self.fine):
            half.check()

    @property
    def coarse(self) -> Flat:
        return Flat(codebook_sizes=self.codebook_sizes[: self.num_coarse], extra_specials=self.extra_specials)

    @property
    def fine(self) -> Parallel | Flat:
        make = Parallel if self.fine_kind == "parallel" else Flat
        return make(codebook_sizes=self.codebook_sizes[self.num_coarse :], extra_specials=self.extra_specials)

    def to_tokens(self, codes: Any) -> SplitTokens:
        """Codes (B, K, N) or (K, N) -> both sequences."""
        values, K = integers(codes, "codes"), len(self.codebook_sizes)
        if values.ndim not in (2, 3) or values.shape[-2] != K:
            raise TokenError(f"codes have shape {tuple(values.shape)}; wanted is (B, {K}, N) or ({K}, N)")
        coarse, fine = values[..., : self.num_coarse, :], values[..., self.num_coarse :, :]
        return SplitTokens(self.coarse.to_tokens(coarse), self.fine.to_tokens(fine))

    def read(self, tokens: SplitTokens, *, invalid: Policy = "cut") -> Reading:
        """Both sequences of one recording -> its codes (K, N); frames that only one of them has are incomplete."""
        readings = []
        for name, layout, sequence in (("coarse", self.coarse, tokens[0]), ("fine", self.fine, tokens[1])):
            try:
                readings.append(layout.read(sequence, invalid=invalid))
            except TokenError as error:
                raise TokenError(f"{name}: {error}") from error
        coarse, fine = readings
        problems = (*coarse.problems, *fine.problems)
        N = min(coarse.num_frames, fine.num_frames)
        if coarse.num_frames != fine.num_frames:
            text = f"the coarse sequence has {coarse.num_frames} frames, and the fine one {fine.num_frames}"
            if invalid == "refuse":
                raise TokenError(f"{text}; invalid='cut' keeps the {N} that both have")
            problems += (Problem(N, None, None, text),)
        return Reading(torch.cat([coarse.codes[:, :N], fine.codes[:, :N]]), problems)

    def to_codes(self, tokens: SplitTokens, *, invalid: Policy = "refuse") -> Tensor:
        """Both sequences -> codes (K, N), or (B, K, N); what is not refused comes with a TokenWarning."""
        coarse = integers(tokens[0], "tokens")
        if coarse.ndim == 2:
            halves = self.coarse.to_codes(tokens[0], invalid=invalid), self.fine.to_codes(tokens[1], invalid=invalid)
            if halves[0].shape[::2] != halves[1].shape[::2]:
                shapes = " and ".join(str(tuple(half.shape)) for half in halves)
                raise TokenError(f"the coarse and the fine sequences have codes of shapes {shapes}")
            return torch.cat(halves, dim=1)
        reading = self.read(tokens, invalid=invalid)
        if reading.problems:
            warnings.warn(reading.report, TokenWarning, stacklevel=2)
        return reading.codes
