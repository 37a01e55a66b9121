"""The grid: blocks of any pieces, the outputs they give, and what an excerpt needs, by hand and as laws."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st

from vqaudio.engine import Cutter, Grid

# an encoder of hop 4 with blocks of 8 frames and a look-ahead of 2, as drawn in vqaudio/engine/grid.py
ENCODER = Grid(size=32, unit=4, delay=8, out_size=8, out_delay=2, warm_up=1)
DECODER = Grid(size=8, unit=1, delay=2, out_size=32, out_delay=8, warm_up=2)
any_grid = pytest.mark.parametrize("grid", [ENCODER, DECODER])


def test_the_drawing() -> None:
    total = 22  # frames of 85 samples
    assert [ENCODER.span(block, total) for block in range(3)] == [(0, 6), (6, 14), (14, 22)]
    assert ENCODER.num_blocks(85) == 3
    assert ENCODER.num_blocks(0) == 0
    assert [ENCODER.first_block(frame) for frame in (0, 5, 6, 13, 14)] == [0, 0, 1, 1, 2]
    assert ENCODER.num_inputs(22) == 22 * 4 + 8
    assert DECODER.num_inputs(33) == 9 + 2  # sample 32 belongs to frame 8
    assert [DECODER.start_of(block) for block in (0, 1, 2, 5)] == [0, 0, 0, 3]


@any_grid
@given(num_inputs=st.integers(1, 200))
def test_spans_tile_the_outputs(grid: Grid, num_inputs: int) -> None:
    units = -(-num_inputs // grid.unit)
    total = units * grid.unit * grid.out_size // grid.size
    spans = [grid.span(block, total) for block in range(grid.num_blocks(num_inputs))]
    filled = [span for span in spans if span[0] < span[1]]
    assert filled[0][0] == 0 and filled[-1][1] == total
    assert all(first[1] == second[0] for first, second in pairwise(filled))
    for block, (first, last) in enumerate(spans):
        assert all(grid.first_block(output) == block for output in range(first, last))


@any_grid
@given(data=st.data(), num_inputs=st.integers(0, 200))
def test_blocks_hold_the_input_once_and_zeros_after_it(grid: Grid, data: st.DataObject, num_inputs: int) -> None:
    signal = torch.arange(1, num_inputs + 1)[None]  # no zeros in it
    cuts = sorted(data.draw(st.lists(st.integers(0, num_inputs), max_size=6)))
    cutter = Cutter(grid)
    blocks = []
    for start, stop in pairwise([0, *cuts, num_inputs]):
        blocks += cutter.push(signal[:, start:stop])
        assert cutter.num_inputs == stop
        assert cutter.held is not None and cutter.held.shape[-1] < grid.size, "a full block was held back"
    blocks += cutter.finish()
    assert [block.index for block in blocks] == list(range(grid.num_blocks(num_inputs)))
    assert all(block.data.shape == (1, grid.size) for block in blocks)
    assert sum(block.num_valid for block in blocks) == num_inputs
    assert all(block.num_before == sum(other.num_valid for other in blocks[: block.index]) for block in blocks)
    together = torch.cat([signal[:, :0], *(block.data for block in blocks)], dim=1)
    assert torch.equal(together[:, :num_inputs], signal)
    assert not together[:, num_inputs:].any()


def test_only_the_blocks_that_are_wanted_are_completed() -> None:
    cutter = Cutter(ENCODER, first_block=3)
    signal = torch.ones(1, 40)
    blocks = [*cutter.push(signal), *cutter.finish(num_blocks=5)]
    assert [(block.index, block.num_before, block.num_valid) for block in blocks] == [(3, 96, 32), (4, 128, 8)]


def test_held_samples_do_not_keep_a_long_piece_alive() -> None:
    cutter = Cutter(ENCODER)
    list(cutter.push(torch.zeros(1, 3_200_003)))
    assert cutter.held is not None and cutter.held.untyped_storage().nbytes() == 3 * 4
