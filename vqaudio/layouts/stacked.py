"""Layouts with a row for each codebook, (K, L): what models with one head for each codebook read and write.

Every row counts its own codes from 0. The specials are the same in all rows, from the largest size on.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vqaudio.layouts.index_map import TokenError
from vqaudio.layouts.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Parallel(Layout):
    """All codes of a frame at one step, as they are: (K, L) with L = N. Models with a small one inside for each frame.

    step         0  1  2  3
    codebook 0   a0 a1 a2 a3
    codebook 1   b0 b1 b2 b3
    """

    kind: Literal["parallel"] = "parallel"
    codebook_sizes: tuple[int, ...]
    extra_specials: tuple[str, ...] = ()
    stacked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
        self.check()

    @property
    def code_offsets(self) -> tuple[int, ...]:
        return (0,) * self.num_codebooks

    def num_steps(self, num_frames: int) -> int:
        return num_frames

    def positions(self, num_frames: int) -> Tensor:
        return torch.arange(num_frames).expand(self.num_codebooks, -1)

    def codebooks_at(self, step: int, num_frames: int | None) -> tuple[int | None, ...]:
        return tuple(range(self.num_codebooks))

    def may_end(self, step: int) -> bool:
        return False

    def frames_begun(self, tokens: Tensor) -> int:
        return tokens.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Delay(Layout):
    """Each codebook some steps later than the one before, so that it can see it: (K, L) with L = N + largest delay.

    MusicGen's pattern (arXiv 2306.05284, figure 1) for four codebooks and five frames; `-` is pad.

    step         0  1  2  3  4  5  6  7
    codebook 0   a0 a1 a2 a3 a4 -  -  -
    codebook 1   -  b0 b1 b2 b3 b4 -  -
    codebook 2   -  -  c0 c1 c2 c3 c4 -
    codebook 3   -  -  -  d0 d1 d2 d3 d4

    No frames are no steps. MusicGen begins with one more step without codes: `batch(…, begin=True)` adds it.
    """

    kind: Literal["delay"] = "delay"
    codebook_sizes: tuple[int, ...]
    delays: tuple[int, ...] = ()  # steps, one for each codebook, the least of them 0; empty: 0, 1, 2, … as in MusicGen
    extra_specials: tuple[str, ...] = ()
    stacked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
        object.__setattr__(self, "delays", tuple(self.delays) or tuple(range(self.num_codebooks)))
        self.check()
        if len(self.delays) != self.num_codebooks:
            raise TokenError(f"there are {self.num_codebooks} codebooks, and {len(self.delays)} delays: {self.delays}")
        if min(self.delays) != 0:
            raise TokenError(f"delays are {self.delays}; they count from 0 on, and one of them is 0")

    @property
    def code_offsets(self) -> tuple[int, ...]:
        return (0,) * self.num_codebooks

    def num_steps(self, num_frames: int) -> int:
        return num_frames + max(self.delays) if num_frames else 0

    def positions(self, num_frames: int) -> Tensor:
        return torch.arange(num_frames) + torch.tensor(self.delays)[:, None]

    def codebooks_at(self, step: int, num_frames: int | None) -> tuple[int | None, ...]:
        frames = [step - delay for delay in self.delays]
        return tuple(
            k if frame >= 0 and (num_frames is None or frame < num_frames) else None for k, frame in enumerate(frames)
        )

    def may_end(self, step: int) -> bool:
        return False

    def frames_begun(self, tokens: Tensor) -> int:
        pads = (tokens[self.delays.index(0)] == self.pad_id).nonzero()
        return int(pads[0]) if len(pads) else tokens.shape[-1]
