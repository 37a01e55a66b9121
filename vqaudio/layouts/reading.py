"""Tokens -> codes, whatever a model or a file made of them; nothing is put right in silence.

    pad … pad  begin  payload  end  pad … pad       pads, begin and end may be missing; nothing else may follow the end

The payload is laid over the map of the layout. Three things can be wrong with it: an id that does not belong where it
stands, an end within a frame, and an id where there should be none. What is done then is the reader's choice:

    refuse    TokenError, with the position, the id and what is valid there
    cut       the whole frames before the first thing that is wrong
    clamp     codes out of range become the nearest in range; a frame that is not complete goes. A code of another
              codebook is moved as well, so of a sequence that lost a token clamp makes noise: it is for models that
              now and then give an id past a codebook, in a stacked layout
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vqaudio.layouts.index_map import IndexMap, Slot, TokenError, column

Policy = Literal["refuse", "cut", "clamp"]
NUM_SHOWN = 3  # problems that a report tells of; the others it counts


class TokenWarning(UserWarning):
    """`to_codes` cut or changed what it was given; the message says what."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a sequence."""

    position: int  # in the sequence as it was given, from 0; its length if it ends too early
    row: int | None  # the codebook's row of a stacked sequence
    id: int | None  # what stands there; None: the sequence has ended
    text: str
    changed_to: int | None = None  # by clamp

    def __str__(self) -> str:
        return self.text if self.changed_to is None else f"{self.text}; changed to {self.changed_to}"


@dataclass(frozen=True, eq=False)
class Reading:
    """What a sequence says: codes (K, N) int64 on the CPU, and what was wrong with it.

    `problems` is empty if all was well. `cut` looks no further than the first; `clamp` tells of each.
    """

    codes: Tensor
    problems: tuple[Problem, ...]

    @property
    def num_frames(self) -> int:
        return self.codes.shape[1]

    @property
    def report(self) -> str:
        """What was wrong and what is left, in one sentence; empty if nothing was."""
        if not self.problems:
            return ""
        shown = "; ".join(str(problem) for problem in self.problems[:NUM_SHOWN])
        more = f"; and {len(self.problems) - NUM_SHOWN} more" if len(self.problems) > NUM_SHOWN else ""
        return f"{shown}{more}; read: {_counted(self.num_frames)}"


def read(layout: IndexMap, tokens: Tensor, invalid: Policy) -> Reading:
    """The codes of one sequence, (L,) or (K, L) int64 on the CPU."""
    if invalid not in get_args(Policy):
        raise TokenError(f"invalid is {invalid!r}; expected one of {', '.join(get_args(Policy))}")
    start, stop, after = _payload(layout, tokens)
    laid = _Laid(layout, tokens[..., start:stop], start)
    found = laid.problems(clamp=invalid == "clamp")
    found += after
    if not found:
        return Reading(laid.codes, ())
    if invalid == "clamp":
        sizes = column(layout.codebook_sizes)
        codes = torch.minimum(laid.codes, sizes - 1).clamp(min=0)[:, : laid.num_whole]
        return Reading(codes.contiguous(), tuple(found))
    reading = Reading(laid.codes[:, : laid.num_sound].contiguous(), (found[0],))
    if invalid == "refuse":
        kept = f"the {_counted(reading.num_frames)} before it" if reading.num_frames else "nothing: no frame is whole"
        raise TokenError(f"{found[0]}; invalid='cut' keeps {kept}")
    return reading


def _payload(layout: IndexMap, tokens: Tensor) -> tuple[int, int, list[Problem]]:
    """Where the codes begin and end in a sequence, and what is wrong after the end."""
    marks = tokens
    if layout.stacked:  # a step is pad, begin or end if all its rows are
        marks = torch.where((tokens == tokens[:1]).all(dim=0), tokens[0], -1)
    L = len(marks)
    others = (marks != layout.pad_id).nonzero()
    if not len(others):
        return L, L, []
    start, stop = int(others[0]), int(others[-1]) + 1
    start += int(marks[start] == layout.begin_id)
    ends = (marks[start:stop] == layout.end_id).nonzero()
    if not len(ends):
        return start, stop, []
    end = start + int(ends[0])
    strays = (tokens[..., end + 1 : stop] != layout.pad_id).nonzero()
    if not len(strays):
        return start, end, []
    step = end + 1 + int(strays[:, -1].min())
    row = None if not layout.stacked else int((tokens[:, step] != layout.pad_id).nonzero()[0])
    slot = Slot(layout, step, row, None)
    id = int(tokens[step] if row is None else tokens[row, step])
    text = f"{slot.where} holds id {id} ({layout.named(id)}); valid there, after the end at {end}: {slot.valid}"
    return start, end, [Problem(step, row, id, text)]


class _Laid:
    """A payload laid over the map of its layout."""

    def __init__(self, layout: IndexMap, payload: Tensor, start: int) -> None:
        self.layout, self.payload, self.start = layout, payload, start
        self.L = L = payload.shape[-1]
        self.flat = payload.reshape(-1)
        N = layout.frames_begun(payload)
        self.steps = layout.positions(N)  # (K, N)
        present = self.steps < L
        rows = torch.arange(layout.num_codebooks)[:, None] * L if layout.stacked else 0
        index = torch.where(present, self.steps, 0) + rows
        self.codes = self.flat[index] - column(layout.code_offsets)
        in_range = (self.codes >= 0) & (self.codes < column(layout.codebook_sizes))
        self.wrong = present & ~in_range
        self.missing = ~present
        unused = torch.ones_like(self.flat, dtype=torch.bool)
        unused[index[present]] = False
        self.stray = (unused & (self.flat != layout.pad_id)).view_as(payload)
        self.num_whole = _first(self.missing.any(dim=0))

    @property
    def num_sound(self) -> int:
        """The frames from the first on that nothing is wrong with."""
        if not self.layout.stacked:  # after a wrong id nothing is where it seems to be
            first = min(_first(self.stray), self.L)
            if self.wrong.any():
                first = min(first, int(self.steps[self.wrong].min()))
            return _first((self.steps >= first).any(dim=0))
        sound = min(self.num_whole, _first(self.wrong.any(dim=0)))
        if sound and self.stray.any():
            row, step = self.stray.nonzero().unbind(dim=1)
            sound = min(sound, max(0, int((step - self.steps[row, 0]).min())))
        return sound

    def problems(self, *, clamp: bool) -> list[Problem]:
        """In the order of their positions; only the first unless they are clamped, and then each."""
        layout, found = self.layout, []
        wrong, stray = self.wrong.nonzero(), self.stray.nonzero()
        if not clamp:  # no list of a million things for the sake of its first
            wrong = wrong[self.steps[self.wrong].argmin()][None] if len(wrong) else wrong
            stray = stray[stray[:, -1].argmin()][None] if len(stray) else stray
        for codebook, frame in wrong.tolist():
            step = int(self.steps[codebook, frame])
            row = codebook if layout.stacked else None
            code = min(max(int(self.codes[codebook, frame]), 0), layout.codebook_sizes[codebook] - 1)
            changed_to = code + layout.code_offsets[codebook] if clamp else None
            found.append(self._problem(Slot(layout, self.start + step, row, codebook, frame), changed_to))
        for place in stray.tolist():
            row = place[0] if layout.stacked else None
            found.append(self._problem(Slot(layout, self.start + place[-1], row, None), None))
        if self.missing.any():
            frame, position = self.num_whole, self.start + self.L
            codebook = int(self.missing[:, frame].nonzero()[0])
            text = (
                f"the sequence ends at position {position}, and codebook {codebook} of frame {frame} is not there yet"
            )
            found.append(Problem(position, codebook if layout.stacked else None, None, text))
        return sorted(found, key=lambda problem: (problem.position, problem.row or 0))

    def _problem(self, slot: Slot, changed_to: int | None) -> Problem:
        step = slot.step - self.start
        id = int(self.payload[step] if slot.row is None else self.payload[slot.row, step])
        text = f"{slot.where} holds id {id} ({self.layout.named(id)}); valid there: {slot.valid}"
        return Problem(slot.step, slot.row, id, text, changed_to)


def _counted(num_frames: int) -> str:
    return f"{num_frames} whole frame{'s' * (num_frames != 1)}"


def _first(marked: Tensor) -> int:
    """The index of the first True in (n,), or n."""
    found = marked.nonzero()
    return int(found[0]) if len(found) else len(marked)
