"""The one way audio goes through a codec: block by block on a fixed grid, with the state carried along.

    conditions.py   one torch thread, float32, no autograd, whatever the caller has set
    grid.py         where blocks begin and end, and which outputs each gives
    sides.py        what one block goes through, encoding and decoding
    run.py          recordings in pieces, on several workers

The same frame is always computed by the same arithmetic at the same shape: appended zeros, other channels, neighbours,
the sizes of the pieces, the number of workers and threads and an excerpt's start cannot change a bit of it, and memory
does not grow with the length.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor

from vqaudio.engine.conditions import run_apart as run_apart
from vqaudio.engine.grid import Block as Block, Cutter as Cutter, Grid as Grid
from vqaudio.engine.run import Crew as Crew, Group as Group, crew as crew, side_by_side as side_by_side
from vqaudio.engine.sides import BLOCK_FRAMES as BLOCK_FRAMES, Side as Side
from vqaudio.models import Codec


def encode_blocks(
    codec: Codec,
    pieces: Iterable[Tensor],
    *,
    num_codebooks: int | None = None,
    block_frames: int = BLOCK_FRAMES,
    workers: int = 1,
) -> Iterator[Tensor]:
    """Pieces (C, t) of any lengths -> codes (C, K, n) in blocks, ⌈T / hop⌉ frames in all; none for no samples.

    Samples are floats at the codec's rate. Each channel is coded by itself. Codes come on the CPU.
    """
    side = Side(codec, "encode", block_frames=block_frames, num_codebooks=num_codebooks)
    with crew(side, workers) as workforce:
        yield from workforce.run(pieces, total=codec.frames_for)


def decode_blocks(
    codec: Codec,
    pieces: Iterable[Tensor],
    *,
    num_samples: int,
    block_frames: int = BLOCK_FRAMES,
    workers: int = 1,
) -> Iterator[Tensor]:
    """Codes (C, k, n) in pieces of any lengths, ⌈num_samples / hop⌉ frames in all -> audio (C, t) in blocks.

    Gives `num_samples` samples, on the CPU. What the decoder sees after the end is latents of zeros.
    """
    with crew(Side(codec, "decode", block_frames=block_frames), workers) as workforce:
        yield from workforce.run(pieces, total=lambda _: num_samples)
