"""Between a source and codes, and codes and samples at any rate: which input a stretch of the output needs.

    source ─ blocks ─► mix down ─► resample ─► crew: codec ─► frames first … last - 1
    samples first … last - 1 ◄── resample ◄── crew: codec ◄── codes

Everything goes by blocks, and a stretch in the middle is what it is in the whole, to the bit: the resampler and the
engine both begin on their own grids, a little before, and what comes too early is left out.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vqaudio.codes import Codes
from vqaudio.dsp import Resampler
from vqaudio.engine import Crew
from vqaudio.source import Source


def coded_frames(
    crew: Crew,
    source: Source,
    first: int,
    last: int,
    *,
    mix: bool,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Tensor]:
    """The codes (C, K, n) of frames `first` to `last` of a source, as blocks; C is 1 if the channels are mixed.

    `progress` is told which part of what has to be read has been, 0 to 1.
    """
    codec, grid = crew.side.codec, crew.side.grid
    start = stop = first_block = num_blocks = 0
    if first < last:
        first_block, num_blocks = grid.first_block(first), grid.first_block(last - 1) + 1
        start = grid.start_of(first_block) * grid.size
        stop = min(grid.num_inputs(last), source.num_samples_at(codec.sample_rate))
    blocks = crew.run(
        source.at_rate(codec.sample_rate, start=start, stop=stop, mix=mix, progress=progress),
        total=lambda num_inputs: min(codec.frames_for(num_inputs), last),
        num_blocks=num_blocks,
        first_block=first_block,
    )
    return _between(blocks, first, last, position=grid.span(first_block, last)[0])


def decoded_samples(crew: Crew, codes: Codes, rate: int, first: int, last: int) -> Iterator[Tensor]:
    """Samples `first` to `last` of what codes decode to at `rate` Hz, as blocks (C, t)."""
    if first == last:
        return iter(())
    resampler = Resampler(crew.side.codec.sample_rate, rate)
    start, position = resampler.start_at(first)
    stop = resampler.num_inputs_for(last)
    return _between(_resampled(crew, codes, resampler, start, stop), first, last, position=position)


def _resampled(crew: Crew, codes: Codes, resampler: Resampler, first: int, last: int) -> Iterator[Tensor]:
    """Samples `first` to `last` of the model's rate, decoded and resampled; they may lie past the end."""
    if first < codes.num_samples:
        for block in _samples(crew, codes, first, min(last, codes.num_samples)):
            yield resampler.push(block)
    # Past the end: what the filter needs, or a slice whose piece of the source ends up to a sample later.
    silence = torch.zeros(codes.channels, 1, dtype=torch.float32)
    yield resampler.push(silence.expand(-1, max(0, last - max(first, codes.num_samples))))
    yield resampler.finish()


def _samples(crew: Crew, codes: Codes, first: int, last: int) -> Iterator[Tensor]:
    """Samples `first` to `last` of the model's rate."""
    grid = crew.side.grid
    first_block, num_blocks = grid.first_block(first), grid.first_block(last - 1) + 1
    start, stop = grid.start_of(first_block) * grid.size, min(grid.num_inputs(last), codes.num_frames)
    blocks = crew.run(
        [codes.values[..., start:stop]], total=lambda _: last, num_blocks=num_blocks, first_block=first_block
    )
    return _between(blocks, first, last, position=grid.span(first_block, last)[0])


def _between(blocks: Iterator[Tensor], first: int, last: int, *, position: int) -> Iterator[Tensor]:
    """What lies in first ... last - 1 of consecutive blocks (..., n), of which the first begins at `position`."""
    for block in blocks:
        start, stop = max(first - position, 0), min(last - position, block.shape[-1])
        if start < stop:
            yield block[..., start:stop]
        position += block.shape[-1]
