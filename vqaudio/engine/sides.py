"""The two sides of a codec, as what a block goes through: samples -> codes, codes -> samples.

On a CPU the blocks of each recording go one at a time through a `Program` and a `FoldedQuantizer`, which are made once
for a model and kept while it lives. On another device blocks of several recordings go through the model's own layers
together, always as many (`GPU_LANES`), so that shapes stay the same there too.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vqaudio.engine.conditions import exact_arithmetic
from vqaudio.engine.grid import Block, Grid
from vqaudio.models import Codec
from vqaudio.nn import Program, Stream, UnreadableError
from vqaudio.quantize import FoldedQuantizer
from vqaudio.quantize.base import check_codes

# A block costs a few ms whatever its length, much of it for bringing the weights into the cache; what longer and
# shorter ones cost is in benchmarks/README.md, from benchmarks/blocks.py.
BLOCK_FRAMES = 200
GPU_LANES = 16  # recordings, or pieces of one, side by side


@dataclass(frozen=True)
class Side:
    """One direction of a codec on the grid of `block_frames`."""

    codec: Codec
    direction: Literal["encode", "decode"]
    block_frames: int = BLOCK_FRAMES
    num_codebooks: int | None = None  # of an encoder; None: all
    lanes: int = 0  # blocks of different recordings at once; 0: one on a CPU, GPU_LANES elsewhere

    def __post_init__(self) -> None:
        if not isinstance(self.block_frames, int) or self.block_frames < 1:
            raise ValueError(f"block_frames is {self.block_frames!r}; it must be an integer of at least 1")
        if self.lanes == 0:
            object.__setattr__(self, "lanes", 1 if self.device.type == "cpu" else GPU_LANES)

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device

    @cached_property
    def grid(self) -> Grid:
        codec, block, hop = self.codec, self.block_frames, self.codec.hop_length
        if self.direction == "encode":
            delay, past = codec.encoder_delay_frames, codec.encoder_receptive_field_frames
            sizes = {"size": block * hop, "unit": hop, "delay": delay * hop, "out_size": block, "out_delay": delay}
        else:
            delay, past = codec.decoder_delay_frames, codec.decoder_receptive_field_frames
            sizes = {"size": block, "unit": 1, "delay": delay, "out_size": block * hop, "out_delay": delay * hop}
        return Grid(**sizes, warm_up=-(-past // block))

    @contextmanager
    def steps(self) -> Iterator["Steps"]:
        """What runs blocks, for one thread."""
        if self.lanes > 1:
            yield _Together(self)
            return
        with _kept(self) as (program, folded):
            yield _OneByOne(self, program, folded)


class Steps(Protocol):
    """Blocks (one for each lane at most) and their streams, which are brought up to date -> outputs on the CPU."""

    def __call__(self, blocks: Sequence[Block], streams: Sequence[Stream]) -> list[Tensor]:
        """Each block's data is (1, ..., size); outputs are codes (1, K, block) or samples (1, block · hop)."""
        ...


class _OneByOne:
    def __init__(self, side: Side, program: Program | None, folded: FoldedQuantizer | None) -> None:
        self.side, self.program, self.folded = side, program, folded
        self.run = self._encoded if side.direction == "encode" else self._decoded

    def __call__(self, blocks: Sequence[Block], streams: Sequence[Stream]) -> list[Tensor]:
        with exact_arithmetic(self.side.device):
            outputs = [self.run(block, stream) for block, stream in zip(blocks, streams, strict=True)]
        return [output.clone() for output in outputs]  # normal tensors, and not the program's buffers

    def _encoded(self, block: Block, stream: Stream) -> Tensor:
        codec, audio = self.side.codec, block.data.to(torch.float32)[:, None]
        run = self.program or (lambda x, stream: codec.encode_latents(x, stream=stream))
        latents = run(audio, stream)
        if self.folded is None:
            return codec.quantizer.encode(latents, num_codebooks=self.side.num_codebooks)
        K = self.side.num_codebooks or len(codec.codebook_sizes)
        return self.folded.encode(latents[0].t(), K).t()[None]

    def _decoded(self, block: Block, stream: Stream) -> Tensor:
        codec, codes = self.side.codec, block.data
        check_codes(codes, codec.codebook_sizes)
        latents = codec.quantizer.decode(codes) if self.folded is None else self.folded.decode(codes[0].t()).t()[None]
        latents[..., block.num_valid :] = 0.0
        run = self.program or (lambda x, stream: codec.decode_latents(x, stream=stream))
        return codec.to_audio(run(latents, stream))[:, 0]


class _Together:
    """All lanes in one batch; those without a recording see zeros."""

    def __init__(self, side: Side) -> None:
        self.side = side

    def __call__(self, blocks: Sequence[Block], streams: Sequence[Stream]) -> list[Tensor]:
        outputs: dict[int, Tensor] = {}
        for num_rows in dict.fromkeys(block.data.shape[-2] for block in blocks):  # codes may be of fewer codebooks
            lanes = [lane for lane, block in enumerate(blocks) if block.data.shape[-2] == num_rows]
            found = self._run([blocks[lane] for lane in lanes], [streams[lane] for lane in lanes])
            outputs |= zip(lanes, found, strict=True)
        return [outputs[lane] for lane in range(len(blocks))]

    def _run(self, blocks: Sequence[Block], streams: Sequence[Stream]) -> list[Tensor]:
        side, codec = self.side, self.side.codec
        data = torch.cat([block.data for block in blocks])
        if side.direction == "decode":  # here, before a device sees them: a wrong index there ends the process
            check_codes(data, codec.codebook_sizes)
        missing = side.lanes - len(blocks)
        data = torch.cat([data, data.new_zeros(missing, *data.shape[1:])]).to(side.device)
        with exact_arithmetic(side.device):
            stream = self._stacked(streams)
            if side.direction == "encode":
                audio = data.to(torch.float32)[:, None]
                output = codec.encode(audio, num_codebooks=side.num_codebooks, stream=stream)
            else:
                latents = codec.quantizer.decode(data)
                for row, block in enumerate(blocks):
                    latents[row, :, block.num_valid :] = 0.0
                output = codec.to_audio(codec.decode_latents(latents, stream=stream))[:, 0]
            for key, states in stream.items():
                for row, own in enumerate(streams):
                    own[key] = states[row : row + 1]
        return list(output[: len(blocks)].cpu().clone().split(1))

    def _stacked(self, streams: Sequence[Stream]) -> Stream:
        """The states of all lanes as one batch, zeros for those that begin."""
        shapes = {key: state for stream in streams for key, state in stream.items()}
        stacked = {}
        for key, like in shapes.items():
            zeros = like.new_zeros(like.shape)
            rows = [stream.get(key, zeros) for stream in streams]
            stacked[key] = torch.cat(rows + [zeros] * (self.side.lanes - len(streams)))
        return stacked


# ---- what is kept of a model

_Kept = dict[int, list[Any]]
_lock = threading.Lock()
_of_model: "WeakKeyDictionary[nn.Module, _Kept]" = WeakKeyDictionary()  # of an encoder, quantiser or decoder


@contextmanager
def _kept(side: Side) -> Iterator[tuple[Program | None, FoldedQuantizer | None]]:
    """The program and the folded quantiser of a side, for one thread at a time; None where a model has none."""
    codec, encodes = side.codec, side.direction == "encode"
    module = codec.encoder if encodes else codec.decoder
    channels, length = (1, side.grid.size) if encodes else (codec.quantizer.dim, side.block_frames)

    def program() -> Program | None:
        try:
            return Program(module, channels=channels, length=length)
        except UnreadableError:
            return None

    def folded() -> FoldedQuantizer | None:
        quantizer = codec.quantizer
        return FoldedQuantizer(quantizer) if FoldedQuantizer.can_fold(quantizer) else None

    with _lent(module, length, program) as own, _lent(codec.quantizer, 0, folded) as quantizer:
        yield own, quantizer


@contextmanager
def _lent(module: nn.Module, key: int, make: Any) -> Iterator[Any]:
    """One of the things kept for a module that still holds its weights, or a new one."""
    with _lock:
        shelf = _of_model.setdefault(module, {}).setdefault(key, [])
        thing = shelf.pop() if shelf else None
    if thing is None or not thing.holds(module):
        thing = make()
    try:
        yield thing
    finally:
        if thing is not None:
            with _lock:
                shelf.append(thing)
