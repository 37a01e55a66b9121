"""What a layout has to say of itself: the place of every code in a sequence, and the ids that are in use.

    0 … first_id - 1            not of audio: a text vocabulary, for example; none by default
    first_id … codes_end - 1    codes
    codes_end                   pad      where there is no code: before delays, and at the end of shorter sequences
    codes_end + 1               begin
    codes_end + 2               end
    codes_end + 3 …             the names in `extra_specials`, in their order

So code 0 is a code like any other, and no special id can be taken for one.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

SPECIALS = ("pad", "begin", "end")


class TokenError(ValueError):
    """Tokens that are no codes, codes that fit no layout, or token spaces that differ; one sentence."""


class IndexMap(Protocol):
    """Where code (codebook, frame) stands in the sequence, and by which id."""

    kind: str
    codebook_sizes: tuple[int, ...]  # K of them
    extra_specials: tuple[str, ...]
    stacked: ClassVar[bool]  # (K, L): a row for each codebook, each with its own codes from 0; else (L,)

    @property
    def code_offsets(self) -> tuple[int, ...]:
        """Of each codebook: the id of its code 0."""
        ...

    def num_steps(self, num_frames: int) -> int:
        """L of N frames."""
        ...

    def positions(self, num_frames: int) -> Tensor:
        """(K, N) int64: the step at which each code stands; in a stacked layout, in the row of its codebook."""
        ...

    def codebooks_at(self, step: int, num_frames: int | None) -> tuple[int | None, ...]:
        """Of each row at a step of N frames: its codebook, or None for pad. None frames: they never end."""
        ...

    def may_end(self, step: int) -> bool:
        """Whether a sequence of unknown length may end before this step, by one token."""
        ...

    def frames_begun(self, tokens: Tensor) -> int:
        """How many frames the tokens (L,) or (K, L) hold, whole or not, without begin and end."""
        ...

    # ---- what follows

    @property
    def num_codebooks(self) -> int:
        return len(self.codebook_sizes)

    @property
    def first_id(self) -> int:
        """All codes and specials have ids from here on; below is another vocabulary."""
        return 0

    @property
    def codes_end(self) -> int:
        """All codes have ids below, all specials from here on."""
        return max(first + size for first, size in zip(self.code_offsets, self.codebook_sizes, strict=True))

    @property
    def special_ids(self) -> dict[str, int]:
        """pad, begin, end and those of `extra_specials`, from `codes_end` on."""
        names = (*SPECIALS, *self.extra_specials)
        return {name: self.codes_end + place for place, name in enumerate(names)}

    @property
    def vocab_size(self) -> int:
        """All ids are below: a model needs as many embeddings, for each row if stacked."""
        return self.codes_end + len(SPECIALS) + len(self.extra_specials)

    @property
    def pad_id(self) -> int:
        return self.codes_end

    @property
    def begin_id(self) -> int:
        return self.codes_end + 1

    @property
    def end_id(self) -> int:
        return self.codes_end + 2

    def check(self) -> None:
        """TokenError for sizes or names that make no sense."""
        if self.first_id < 0:
            raise TokenError(f"first_id is {self.first_id}; it is 0, or the size of the vocabulary before the audio's")
        if not self.codebook_sizes or not all(1 <= size <= 2**32 for size in self.codebook_sizes):
            raise TokenError(f"codebook_sizes is {self.codebook_sizes}; wanted is one size or more, from 1 to 2^32")
        names = (*SPECIALS, *self.extra_specials)
        if len(set(names)) < len(names) or not all(names):
            raise TokenError(f"extra_specials is {self.extra_specials}; names are not empty, differ, and none of them "
                             f"is {', '.join(SPECIALS)}")  # fmt: skip

    def named(self, id: int) -> str:
        """What an id stands for, in words: 'code 5 of codebook 1', 'pad', 'no audio: its ids are 0 to 66'."""
        for name, special in self.special_ids.items():
            if id == special:
                return name
        if not self.first_id <= id < self.codes_end:
            return f"no audio: its ids are {self.first_id} to {self.vocab_size - 1}"
        if len(set(self.code_offsets)) < self.num_codebooks:
            return f"code {id - self.first_id}"
        codebook = max(k for k, first in enumerate(self.code_offsets) if first <= id)
        return f"code {id - self.code_offsets[codebook]} of codebook {codebook}"


@dataclass(frozen=True)
class Slot:
    """A place in a sequence, and what belongs there."""

    layout: IndexMap
    step: int
    row: int | None  # None: not stacked
    codebook: int | None  # None: pad
    frame: int | None = None

    @property
    def where(self) -> str:
        return f"position {self.step}" + ("" if self.row is None else f" of row {self.row}")

    @property
    def valid(self) -> str:
        if self.codebook is None:
            return f"{self.layout.pad_id} (pad)"
        first = self.layout.code_offsets[self.codebook]
        last = first + self.layout.codebook_sizes[self.codebook] - 1
        return f"{first} to {last} (codebook {self.codebook} of frame {self.frame})"


def integers(values: Any, what: str) -> Tensor:
    """A tensor on any device, an array or nested lists of integers, as int64 on the CPU, where it can be checked."""
    if not isinstance(values, Tensor):
        try:
            array = np.array(values)
        except ValueError as error:
            raise TokenError(f"{what} are lists of different lengths; give them one by one, or as a batch") from error
        if array.size == 0 and array.dtype.kind == "f":  # what an empty list becomes
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise TokenError(f"{what} are integers, and these are {array.dtype}")
        return torch.from_numpy(array.astype(np.int64))
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TokenError(f"{what} are integers, and these are {values.dtype}")
    return values.detach().to("cpu", torch.int64)


def column(values: tuple[int, ...]) -> Tensor:
    """One value for each codebook, (K, 1)."""
    return torch.tensor(values, dtype=torch.int64)[:, None]
