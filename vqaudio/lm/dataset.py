"""Folders of codes as datasets of token sequences: whole items, windows of frames, or items packed into rows.

                    recordings of 3, 5 and 2 frames, one token a frame; ( begin, ) end, - padding
    ItemDataset     (aaa)  (bbbbb)  (cc)          one sequence for each recording
    WindowDataset   bbb  aaa  bbb  …              pieces of 3 frames, drawn
    PackedDataset   (aaa)(b  bbbb)(  cc)---       rows of 6 steps, every token once

They are map style: an item depends on its index, the seed and the epoch alone, and not on who asks, so a DataLoader
gives the same with any number of workers. Each channel of a recording is a sequence of its own.

Text. With `text`, any callable str -> list[int], an item of a layout in one row is

    text ids of the transcript, begin, audio ids, end

in one vocabulary: ids of the text are 0 … first_id - 1 of the layout, those of the audio follow. A recording without a
transcript has no text ids. In stacked layouts, where text has no row, the ids come beside the tokens, as "text_ids".
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vqaudio.codes import Codes
from vqaudio.layouts import TokenError, TokenSpace
from vqaudio.layouts.batches import wrapped
from vqaudio.lm.folder import CodeFolder, CodeItem
from vqaudio.lm.sampler import shuffled

TextTokenizer = Callable[[str], Sequence[int]]
Item = dict[str, Any]


class Tracks:
    """The channels of all recordings of a folder, one after the other, as codes of a space."""

    def __init__(self, folder: CodeFolder, space: TokenSpace) -> None:
        space.check_codes_of(folder)
        self.folder, self.space = folder, space
        self._ends = list(accumulate(item.channels for item in folder.items))
        self._last: tuple[int, Codes] | None = None  # neighbours in a row, or channels, are of one recording

    def __len__(self) -> int:
        return self._ends[-1]

    def place(self, track: int) -> tuple[int, int]:
        """Recording and channel."""
        recording = bisect_right(self._ends, track)
        return recording, track - (self._ends[recording] - self.folder.items[recording].channels)

    def item(self, track: int) -> CodeItem:
        return self.folder.items[self.place(track)[0]]

    def values(self, track: int) -> Tensor:
        """Codes (K, N) of the codebooks that the space has."""
        recording, channel = self.place(track)
        last = self._last  # as it is now: threads may share a dataset
        if last is None or last[0] != recording:
            last = self._last = recording, self.folder.codes(recording)
        first = self.space.first_codebook
        return last[1].values[channel, first : first + self.space.layout.num_codebooks]

    def tokens(self, track: int, *, begin: bool, end: bool) -> Tensor:
        """(L,) or (K, L)."""
        layout = self.space.layout
        return wrapped(layout, layout.to_tokens(self.values(track)), begin=begin, end=end)

    def named(self, track: int) -> Item:
        """What an item says of its recording."""
        item = self.item(track)
        return {"name": item.name} | ({} if item.text is None else {"text": item.text})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}


class ItemDataset(Dataset[Item]):
    """Each channel of each recording, whole: {"tokens": (L,) or (K, L) int64, "name", "text" if there is one}."""

    def __init__(
        self,
        folder: CodeFolder,
        space: TokenSpace,
        *,
        begin: bool = True,
        end: bool = True,
        text: TextTokenizer | None = None,
    ) -> None:
        """TokenError if the space is of other codes, or its layout has no room for text ids before the audio's."""
        if text is not None and not space.layout.stacked and not space.layout.first_id:
            raise TokenError("there is no room for text ids: the layout's first_id is 0; give it the size of the text "
                             "vocabulary")  # fmt: skip
        self._tracks, self.space = Tracks(folder, space), space
        self.begin, self.end, self.text = begin, end, text

    def __len__(self) -> int:
        return len(self._tracks)

    def __getitem__(self, index: int) -> Item:
        track = _within(index, len(self))
        item = self._tracks.named(track)
        tokens = self._tracks.tokens(track, begin=self.begin, end=self.end)
        if self.text is not None:
            item["text_ids"] = self._text_ids(item)
            if not self.space.layout.stacked:
                tokens = torch.cat([item["text_ids"], tokens])
        return {"tokens": tokens, **item}

    def _text_ids(self, item: Item) -> Tensor:
        """(L,) int64; empty without a transcript."""
        assert self.text is not None
        ids = torch.tensor(list(self.text(item["text"])) if "text" in item else [], dtype=torch.int64)
        first_id = self.space.layout.first_id
        if not self.space.layout.stacked and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < first_id:
            wrong = int(ids[(ids < 0) | (ids >= first_id)][0])
            raise TokenError(f"{item['name']}: text id {wrong} is not below the layout's first_id, {first_id}")
        return ids


class WindowDataset(Dataset[Item]):
    """Pieces of `num_frames` frames: {"tokens", "name", "start" (frame)}; all there are equally likely.

    Window `index` of an epoch is drawn by (seed, epoch, index) alone. The epoch is that of the index, if a
    `ResumableBatches` made it, else 0. A recording that is shorter is one window, whole. With `begin` a window that
    starts its recording begins with that id, and with `end` one that ends it ends with that.
    """

    def __init__(
        self,
        folder: CodeFolder,
        space: TokenSpace,
        *,
        num_frames: int,
        seed: int,
        num_windows: int | None = None,  # in an epoch; None: as many as the folder has frames for, rounded up
        begin: bool = False,
        end: bool = False,
    ) -> None:
        if num_frames < 1 or (num_windows is not None and num_windows < 1):
            raise ValueError(f"num_frames is {num_frames} and num_windows {num_windows}; they are 1 or more")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; it is 0 to 2^64 - 1")
        self._tracks, self.space = Tracks(folder, space), space
        self.num_frames, self.seed, self.begin, self.end = num_frames, seed, begin, end
        self.num_windows = max(1, -(-folder.num_frames // num_frames)) if num_windows is None else num_windows
        lengths = (self._tracks.item(track).num_frames for track in range(len(self._tracks)))
        self._ends = list(accumulate(max(length - num_frames, 0) + 1 for length in lengths))  # of places to start

    def __len__(self) -> int:
        return self.num_windows

    def __getitem__(self, index: int) -> Item:
        number = _within(index, len(self))
        # One generator for each window; its place among all windows of all epochs is its counter.
        key = np.array([self.seed, _epoch(index)], dtype=np.uint64)
        bits = np.random.Philox(key=key, counter=np.array([0, number, 0, 0], dtype=np.uint64)).random_raw()
        place = int(bits) * self._ends[-1] >> 64  # uniform up to 2^-64 of their number
        track = bisect_right(self._ends, place)
        start = place - (self._ends[track - 1] if track else 0)
        values = self._tracks.values(track)[:, start : start + self.num_frames]
        length = self._tracks.item(track).num_frames
        tokens = wrapped(
            self.space.layout,
            self.space.layout.to_tokens(values),
            begin=self.begin and start == 0,
            end=self.end and start + values.shape[1] == length,
        )
        return {"tokens": tokens, **self._tracks.named(track), "start": start}


class PackedDataset(Dataset[Item]):
    """Items one after the other, cut into rows of exactly `num_steps`: every token once in an epoch.

    {"tokens": (L,) or (K, L), "documents": (L,) int64, "positions": (L,) int64}: of each step the number of its item,
    -1 for the padding after the last item, and its place in the item, whichever row that began in. A mask that lets
    a step see its own document alone keeps items apart:

        mask = (documents[:, None] == documents[None]) & (arange[:, None] >= arange[None])
    """

    def __init__(
        self,
        folder: CodeFolder,
        space: TokenSpace,
        *,
        num_steps: int,
        seed: int | None = None,  # of the order, drawn in each epoch anew; None: by name
        begin: bool = True,
        end: bool = True,
    ) -> None:
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; a row has 1 or more")
        if seed is not None and not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; it is 0 to 2^64 - 1, or None for the order of names")
        self._tracks, self.space = Tracks(folder, space), space
        self.num_steps, self.seed, self.begin, self.end = num_steps, seed, begin, end
        layout = space.layout
        frames = [self._tracks.item(track).num_frames for track in range(len(self._tracks))]
        self._lengths = np.array([layout.num_steps(count) + begin + end for count in frames], dtype=np.int64)
        if not self._lengths.sum():
            raise TokenError(f"{folder.path}: holds no frames, so there is nothing to pack")
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None  # epoch, its tracks, where each ends

    def __len__(self) -> int:
        return -(-int(self._lengths.sum()) // self.num_steps)

    def __getitem__(self, index: int) -> Item:
        row = _within(index, len(self))
        order, ends = self._order_of(_epoch(index))
        first, last = row * self.num_steps, min((row + 1) * self.num_steps, int(ends[-1]))
        tokens, documents, positions = [], [], []
        at = int(np.searchsorted(ends, first, side="right"))
        while first < last:
            track = int(order[at])
            start = int(ends[at] - self._lengths[track])
            stop = min(last, int(ends[at]))
            places = torch.arange(first - start, stop - start)
            if len(places):
                tokens.append(self._tracks.tokens(track, begin=self.begin, end=self.end)[..., places])
                documents.append(torch.full_like(places, track))
                positions.append(places)
            first, at = stop, at + 1
        fill = self.num_steps - (last - row * self.num_steps)
        return {
            "tokens": torch.nn.functional.pad(torch.cat(tokens, dim=-1), (0, fill), value=self.space.layout.pad_id),
            "documents": torch.nn.functional.pad(torch.cat(documents), (0, fill), value=-1),
            "positions": torch.nn.functional.pad(torch.cat(positions), (0, fill)),
        }

    def _order_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The tracks in the order of an epoch, and the step after the last of each."""
        if self.seed is None:
            epoch = 0
        known = self._order
        if known is None or known[0] != epoch:
            count = len(self._tracks)
            order = np.arange(count) if self.seed is None else shuffled(count, self.seed, epoch)
            known = self._order = epoch, order, np.cumsum(self._lengths[order])
        return known[1:]


def _epoch(index: int) -> int:
    return getattr(index, "epoch", 0)


def _within(index: int, count: int) -> int:
    """An index from 0 on, as a list takes it: negative ones count from the end."""
    if not -count <= index < count:
        raise IndexError(f"index {index} of {count} items")
    return int(index) % count
