"""The grid: where a recording is cut into blocks, and which outputs each block gives.

    pieces     any sizes come in
    blocks     | block 0 | block 1 | block 2 |      always `block_frames` frames of samples (here 8)
               | x x x x | x x x x | x x 0 0 |      zeros to the hop, for the look-ahead, and to the block
    encoder    | - - 0 … | 6 …  13 | 14 …    |      with a look-ahead of two frames it runs two frames late
    codes      |   0 …                N - 1  |      so the first two are dropped, and the end is cut to N = ⌈T / hop⌉

A block depends on the blocks before it only as far back as the receptive field reaches, `warm_up` blocks. So a run that
starts that much earlier, on the grid, computes what the run from the start computes, bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Lengths in inputs (samples for an encoder, frames for a decoder) and in outputs (the other way round)."""

    size: int  # inputs of a block
    unit: int  # the input is completed to multiples of this
    delay: int  # inputs that must have come after an output's own
    out_size: int  # outputs of a block
    out_delay: int  # outputs by which a block runs late
    warm_up: int  # blocks of the past that a block can depend on

    def span(self, block: int, total: int) -> tuple[int, int]:
        """The outputs first ... last - 1 that a block gives, of `total` in all; first >= last for none."""
        start = block * self.out_size - self.out_delay
        return max(start, 0), min(start + self.out_size, total)

    def num_blocks(self, num_inputs: int) -> int:
        """How many blocks a recording takes."""
        return -(-(num_inputs + -num_inputs % self.unit + self.delay) // self.size) if num_inputs else 0

    def first_block(self, output: int) -> int:
        """The block that gives an output."""
        return (output + self.out_delay) // self.out_size

    def start_of(self, block: int) -> int:
        """The block at which a run has to begin whose outputs begin with those of `block`."""
        return max(0, block - self.warm_up)

    def num_inputs(self, num_outputs: int) -> int:
        """How many inputs from the start on decide the first `num_outputs` outputs."""
        return -(-num_outputs * self.size // self.out_size) + self.delay


@dataclass(frozen=True)
class Block:
    index: int
    data: Tensor  # (C, ..., size), zeros after the end
    num_valid: int  # inputs before the end
    num_before: int  # inputs of the recording before this block

    @property
    def num_inputs(self) -> int:
        """Of the recording, up to and with this block."""
        return self.num_before + self.num_valid


class Cutter:
    """Pieces (C, ..., t) of any lengths -> blocks. Its whole state is what it holds, and two numbers."""

    def __init__(self, grid: Grid, *, first_block: int = 0) -> None:
        self.grid = grid
        self.held: Tensor | None = None  # (C, ..., less than a block)
        self.next_block = first_block

    @property
    def num_inputs(self) -> int:
        """How many have come, or lie before the first block."""
        return self.next_block * self.grid.size + (0 if self.held is None else self.held.shape[-1])

    def push(self, piece: Tensor) -> Iterator[Block]:
        size = self.grid.size
        first = 0
        if self.held is not None and self.held.shape[-1]:
            first = min(size - self.held.shape[-1], piece.shape[-1])
            self.held = joined([self.held, piece[..., :first]], axis=-1)
            if self.held.shape[-1] == size:
                block, self.held = self.held, piece[..., :0]
                yield self._block(block, size)
        while piece.shape[-1] - first >= size:
            first += size
            self.held = piece[..., :0]
            yield self._block(piece[..., first - size : first], size)
        if first < piece.shape[-1] or self.held is None:
            self.held = joined([piece[..., first:]], axis=-1)  # a view would keep the whole piece alive

    def finish(self, num_blocks: int | None = None) -> Iterator[Block]:
        """The last block, completed by zeros, and as many more as the look-ahead takes; none if nothing came.

        `num_blocks` says how many blocks are wanted, if it is not the whole recording.
        """
        if self.held is None:
            return
        size, total, held = self.grid.size, self.num_inputs, self.held
        for _ in range((self.grid.num_blocks(total) if num_blocks is None else num_blocks) - self.next_block):
            num_valid = held.shape[-1]
            zeros = held.new_zeros(*held.shape[:-1], size - num_valid)
            yield self._block(joined([held, zeros], axis=-1), num_valid, before=total - num_valid)
            held = held[..., :0]
        self.held = None

    def _block(self, data: Tensor, num_valid: int, *, before: int | None = None) -> Block:
        before = self.next_block * self.grid.size if before is None else before
        self.next_block += 1
        return Block(self.next_block - 1, data, num_valid, before)


def joined(parts: Sequence[Tensor], *, axis: int) -> Tensor:
    """A copy of tensors on the CPU, one after the other.

    By numpy, because this is done in the caller's thread while workers compute: torch would do it with all its threads,
    and those keep the cores busy for a while afterwards, waiting for more.
    """
    return torch.from_numpy(np.concatenate([part.detach().numpy() for part in parts], axis=axis))
