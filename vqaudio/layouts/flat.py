"""Layouts in one row, (L,): what a plain language model reads and writes. L = K · N."""

from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vqaudio.layouts.index_map import TokenError
from vqaudio.layouts.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Flat(Layout):
    """Frame by frame, all codes of a frame from the first codebook on, as AudioLM flattens (arXiv 2209.03143).

    position    0  1  2  3  4  5          codebooks of 10 and 20 codes, two frames of (a, b)
    code        a0 b0 a1 b1 a2 b2
    id          a0 10+b0 a1 10+b1 …       with offsets: each id says which codebook it is of
                a0 b0 a1 b1 …             without: the position does

    Offsets cost vocabulary and buy certainty: a token that was lost or added is found where it is missing. Without
    them, all that follows would be read as codes of the wrong codebook, and nothing could tell.
    """

    kind: Literal["flat"] = "flat"
    codebook_sizes: tuple[int, ...]
    offsets: bool = True
    first_id: int = 0  # the size of the vocabulary that comes before: the audio's ids follow it
    extra_specials: tuple[str, ...] = ()
    stacked: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
        self.check()

    @property
    def code_offsets(self) -> tuple[int, ...]:
        if not self.offsets:
            return (self.first_id,) * self.num_codebooks
        return one_after_the_other(self.codebook_sizes, self.first_id)

    def num_steps(self, num_frames: int) -> int:
        return num_frames * self.num_codebooks

    def positions(self, num_frames: int) -> Tensor:
        K = self.num_codebooks
        return torch.arange(num_frames) * K + torch.arange(K)[:, None]

    def codebooks_at(self, step: int, num_frames: int | None) -> tuple[int | None, ...]:
        return (step % self.num_codebooks,)

    def may_end(self, step: int) -> bool:
        return step % self.num_codebooks == 0

    def frames_begun(self, tokens: Tensor) -> int:
        return -(-len(tokens) // self.num_codebooks)


@dataclass(frozen=True, kw_only=True)
class CoarseFirst(Layout):
    """Group after group of codebooks, within a group frame by frame; all frames at once, or chunk by chunk.

    (a, b, c) of four frames, each id with its codebook's offset:

    a0 a1 a2 a3  b0 b1 b2 b3  c0 c1 c2 c3        one codebook after the other
    a0 b0 a1 b1 a2 b2 a3 b3  c0 c1 c2 c3         groups (2, 1): AudioLM's coarse tokens, then its fine ones
    a0 a1 b0 b1 c0 c1  a2 a3 b2 b3 c2 c3         chunk_frames 2

    AudioLM: arXiv 2209.03143. The last chunk may be shorter; where a sequence breaks off, the ids tell of which
    codebook they are, and so which frames are whole: that is why these ids always have offsets. A token that is lost
    or doubled in a run of one codebook is refused too, but not located: there `invalid="cut"` takes it for an early
    end, and only the chunks before are sure.
    """

    kind: Literal["coarse-first"] = "coarse-first"
    codebook_sizes: tuple[int, ...]
    groups: tuple[int, ...] = ()  # how many codebooks each has, in all K; empty: one each
    chunk_frames: int | None = None  # None: all frames are one chunk
    first_id: int = 0  # as in `Flat`
    extra_specials: tuple[str, ...] = ()
    stacked: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
        object.__setattr__(self, "groups", tuple(self.groups) or (1,) * self.num_codebooks)
        self.check()
        if sum(self.groups) != self.num_codebooks or min(self.groups) < 1:
            raise TokenError(f"groups are {self.groups}; they hold one codebook or more, in all {self.num_codebooks}")
        if self.chunk_frames is not None and self.chunk_frames < 1:
            raise TokenError(f"chunk_frames is {self.chunk_frames}; it is 1 or more, or None for all in one chunk")

    @property
    def code_offsets(self) -> tuple[int, ...]:
        return one_after_the_other(self.codebook_sizes, self.first_id)

    def num_steps(self, num_frames: int) -> int:
        return num_frames * self.num_codebooks

    def positions(self, num_frames: int) -> Tensor:
        C = self.chunk_frames or max(num_frames, 1)
        frame = torch.arange(num_frames)
        start = frame // C * C
        frames_in_chunk = torch.clamp(num_frames - start, max=C)  # the last one may have fewer
        rows = []
        for group, size in zip(one_after_the_other(self.groups), self.groups, strict=True):
            first = start * self.num_codebooks + group * frames_in_chunk + (frame - start) * size
            rows += [first + place for place in range(size)]
        return torch.stack(rows)

    def codebooks_at(self, step: int, num_frames: int | None) -> tuple[int | None, ...]:
        if self.chunk_frames is None and num_frames is None:
            raise TokenError(
                "coarse-first in one chunk: what is valid depends on num_frames, so say how many there are"
            )
        C = num_frames if self.chunk_frames is None else self.chunk_frames
        assert C is not None
        chunk, within = divmod(step, C * self.num_codebooks)
        if num_frames is not None:
            C = min(C, num_frames - chunk * C)
        for group, size in zip(one_after_the_other(self.groups), self.groups, strict=True):
            if within < (group + size) * C:
                return (group + (within - group * C) % size,)
        raise AssertionError("a step within a chunk is within one of its groups")

    def may_end(self, step: int) -> bool:
        return self.chunk_frames is not None and step % (self.chunk_frames * self.num_codebooks) == 0

    def frames_begun(self, tokens: Tensor) -> int:
        C = self.chunk_frames or max(len(tokens), 1)
        num_chunks, rest = divmod(len(tokens), C * self.num_codebooks)
        if rest == 0:
            return num_chunks * C
        # The last chunk has as many frames as its first group, which ends where a code of a later group stands.
        first_later = self.first_id + sum(self.codebook_sizes[: self.groups[0]])
        tail = tokens[len(tokens) - rest :]
        later = ((tail >= first_later) & (tail < self.codes_end)).nonzero()
        run = int(later[0]) if len(later) else rest
        return num_chunks * C + min(-(-run // self.groups[0]), C)


def one_after_the_other(sizes: tuple[int, ...], first: int = 0) -> tuple[int, ...]:
    """Where each begins if they lie end to end from `first` on."""
    return tuple(accumulate(sizes[:-1], initial=first))
