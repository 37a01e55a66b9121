"""How recordings go through one side of a codec: in pieces of a few blocks, on as many workers as there are.

    blocks        0 1 2 3 4 5 6 7 8 9 …
    worker A      0 1 2 3         8 9 …          carries the state on where the piece before is done
    worker B          (3) 4 5 6 7                or starts apart, warmed up by the block before its first

Whichever way a piece begins, its outputs are the same, bit for bit; that is what the grid is for. Every run holds a
seat for the piece it works on. A seat that no other run wants lets it begin one more piece apart, so that many files
use the workers without warming anything up, and the last or only one still uses them all.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from torch import Tensor

from vqaudio.engine.conditions import borrowed_workers
from vqaudio.engine.grid import Block, Cutter, Grid, joined
from vqaudio.engine.sides import Side, Steps
from vqaudio.nn import Stream

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST_BLOCKS = 8  # of a piece: starting apart then costs an eighth, and what waits for its turn takes little memory


class Seats:
    """How many pieces may be worked on at once, shared among the runs of a crew."""

    def __init__(self, count: int) -> None:
        self._free, self._waiting = count, 0
        self._changed = threading.Condition()

    @property
    def wanted(self) -> bool:
        """Whether a run waits for its first."""
        return self._waiting > 0

    def take(self) -> None:
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._free > 0)
                self._free -= 1
            finally:
                self._waiting -= 1

    def take_if_free(self) -> bool:
        with self._changed:
            if self._free == 0 or self._waiting:
                return False
            self._free -= 1
            return True

    def give(self, count: int = 1) -> None:
        with self._changed:
            self._free += count
            self._changed.notify(count)


class Piece:
    """Blocks of one channel in a row; the first `skip` of them only warm up. `stream` is its state, first and last."""

    def __init__(self, blocks: Sequence[Block], stream: Stream, *, skip: int = 0) -> None:
        self.blocks, self.stream, self.skip = blocks, stream, skip
        self.position = 0
        self._outputs: list[Tensor] = []
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def take(self, output: Tensor) -> bool:
        """The next block's output has been computed; whether it was the last one."""
        if self.position >= self.skip:
            self._outputs.append(output)
        self.position += 1
        if self.position == len(self.blocks):
            self._done.put(None)
        return self.position == len(self.blocks)

    def fail(self, error: BaseException) -> None:
        self._done.put(error)

    def outputs(self) -> list[Tensor]:
        """Wait for them; raises what the computation raised. To be called once."""
        error = self._done.get()
        if error is not None:
            raise error
        return self._outputs


class Crew:
    """Workers that run pieces of one side; see `crew`."""

    def __init__(self, side: Side, count: int) -> None:
        self.side, self.seats = side, Seats(count * side.lanes)
        self.capacity = count * side.lanes
        self._queue: SimpleQueue[Piece | None] = SimpleQueue()
        self._stopping = False
        self._lock = threading.Lock()

    def submit(self, piece: Piece) -> None:
        with self._lock:
            if self._stopping:
                piece.fail(_dismissed())
            else:
                self._queue.put(piece)

    def stop(self, count: int) -> None:
        """Whoever still waits for a piece gets an error: it may be another thread, as after an interrupt."""
        with self._lock:
            self._stopping = True
            with suppress(Empty):
                while piece := self._queue.get(block=False):
                    piece.fail(_dismissed())
            for _ in range(count):
                self._queue.put(None)

    def serve(self) -> None:
        """What each worker does until `stop`: take pieces, as many as there are lanes, and run them block by block."""
        active: list[Piece] = []
        try:
            with self.side.steps() as steps:
                while self._fill(active):
                    self._step(steps, active)
        except BaseException as error:  # making the steps has failed: so does everything that waits for them
            while (piece := self._queue.get()) is not None:
                piece.fail(error)
        for piece in active:
            piece.fail(_dismissed())

    def _fill(self, active: list[Piece]) -> bool:
        """Wait for a piece if there is none, and take more while there are lanes; False when all is over."""
        while len(active) < self.side.lanes:
            try:
                piece = self._queue.get(block=not active)
            except Empty:
                break
            if piece is None:
                return False
            active.append(piece)
        return not self._stopping

    def _step(self, steps: Steps, active: list[Piece]) -> None:
        try:
            outputs = steps([piece.blocks[piece.position] for piece in active], [piece.stream for piece in active])
        except BaseException as error:  # goes to those who wait for these pieces
            for piece in active:
                piece.fail(error)
            active.clear()
            return
        active[:] = [piece for piece, output in zip(active, outputs, strict=True) if not piece.take(output)]

    # ---- one recording

    def run(
        self,
        pieces: Iterable[Tensor],
        *,
        total: Callable[[int], int],
        num_blocks: int | None = None,
        first_block: int = 0,
    ) -> Iterator[Tensor]:
        """Pieces (C, ..., t) of any lengths -> outputs (C, ..., n) block by block, `total(inputs)` of them in all.

        `num_blocks` is how many blocks of the recording there will be, if known, or if later ones are not wanted. With
        a `first_block`, outputs begin with its first, and the pieces with block `grid.start_of(first_block)`.
        """
        grid = self.side.grid
        start = grid.start_of(first_block)
        blocks = _cut(Cutter(grid, first_block=start), pieces, num_blocks)
        recent: list[Block] = []  # before the next piece, as many as warm up
        flight: deque[Group] = deque()
        previous: Group | None = None
        self.seats.take()
        seats = 1
        try:
            for batch in _batches(blocks, self._blocks_of_a_piece(num_blocks and num_blocks - start)):
                while batch and batch[0].index < first_block:
                    recent.append(batch.pop(0))
                if not batch:
                    continue
                outputs: list[Tensor] = []
                while len(flight) >= seats:
                    if self._may_start_apart(batch[0]) and self.seats.take_if_free():
                        seats += 1
                        continue
                    outputs += flight.popleft().outputs(total)
                    if seats > 1 and self.seats.wanted:
                        self.seats.give()
                        seats -= 1
                if previous is not None and previous.finished:
                    group = Group(grid, batch, previous.streams)
                else:
                    group = Group(grid, batch, [{} for _ in batch[0].data], warm_up=recent)
                for piece in group.pieces:
                    self.submit(piece)
                flight.append(group)
                previous = group
                recent = (recent + batch)[-grid.warm_up :] if grid.warm_up else []
                yield from outputs
            while flight:
                yield from flight.popleft().outputs(total)
        finally:
            self.seats.give(seats)

    def _blocks_of_a_piece(self, num_blocks: int | None) -> int:
        if self.capacity == 1:
            return 1
        return MOST_BLOCKS if num_blocks is None else max(1, min(MOST_BLOCKS, -(-num_blocks // self.capacity)))

    def _may_start_apart(self, block: Block) -> bool:
        """Not where the channels of one recording occupy all workers anyway."""
        return len(block.data) < self.capacity


def _dismissed() -> RuntimeError:
    return RuntimeError("the crew was dismissed before this was computed")


class Group:
    """The same blocks of all channels of a recording: one piece each."""

    def __init__(
        self, grid: Grid, blocks: list[Block], streams: list[Stream], *, warm_up: Sequence[Block] = ()
    ) -> None:
        self.grid, self.blocks, self.streams = grid, blocks, streams
        self.finished = False
        self.pieces = [
            Piece(
                [replace(block, data=block.data[channel : channel + 1]) for block in (*warm_up, *blocks)],
                stream,
                skip=len(warm_up),
            )
            for channel, stream in enumerate(streams)
        ]

    def outputs(self, total: Callable[[int], int]) -> list[Tensor]:
        """Wait for them: (C, ..., n) for each block that gives any."""
        channels = [piece.outputs() for piece in self.pieces]
        self.finished = True
        found = []
        for block, *outputs in zip(self.blocks, *channels, strict=True):
            first, last = self.grid.span(block.index, total(block.num_inputs))
            if first < last:
                start = block.index * self.grid.out_size - self.grid.out_delay
                found.append(joined(outputs, axis=0)[..., first - start : last - start])
        return found


def _cut(cutter: Cutter, pieces: Iterable[Tensor], num_blocks: int | None) -> Iterator[Block]:
    for piece in pieces:
        yield from cutter.push(piece)
    yield from cutter.finish(num_blocks)


def _batches(blocks: Iterator[Block], size: int) -> Iterator[list[Block]]:
    while batch := list(islice(blocks, size)):
        yield batch


@contextmanager
def crew(side: Side, workers: int = 1) -> Iterator[Crew]:
    """`workers` threads for one side of a codec."""
    count = max(1, workers) if side.device.type == "cpu" else 1
    with borrowed_workers(count) as threads:
        found = Crew(side, count)
        for thread in threads:
            thread.submit(found.serve)
        try:
            yield found
        finally:
            found.stop(count)


def side_by_side(work: Callable[[ItemT], ResultT], items: Iterable[ItemT], count: int) -> list[ResultT]:
    """`work` on each item, up to `count` at a time, each in a thread of its own; the first failure ends it."""
    if count == 1:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(count, thread_name_prefix="vqaudio-item")
    try:
        return [future.result() for future in [pool.submit(work, item) for item in items]]
    finally:  # after a failure or an interrupt nobody is waited for: they end when their crew is dismissed
        pool.shutdown(wait=False, cancel_futures=True)
