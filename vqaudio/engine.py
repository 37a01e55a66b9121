"""The one way audio goes through a codec: block by block on a fixed grid, with the state carried along.

    pieces     any sizes come in
    blocks     | block 0 | block 1 | block 2 |      always `block_frames` frames of samples (here 8)
               | x x x x | x x x x | x x 0 0 |      zeros to the hop, for the look-ahead, and to the block
    encoder    | - - 0 … | 6 …  13 | 14 …    |      with a look-ahead of two frames it runs two frames late
    codes      |   0 …                N - 1  |      so the first two are dropped, and the end is cut to N = ⌈T / hop⌉

The same frame is always computed by the same arithmetic at the same shape: appended zeros, other channels, neighbours
and the sizes of the pieces cannot change a bit of it, and memory does not grow with the length.

Blocks run in a thread of their own, on one torch thread, in full float32, outside autograd and autocast, whatever the
caller has set: on two threads the matrix products of the encoder are split, and rounded, otherwise than on one. While
a block runs, the caller's thread reads the next.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio.models import Codec
from vqaudio.nn import Stream

# A convolution lays its weights out anew in each call, some 9 ms for the default encoder. Relative to 200 frames,
# blocks of 50 ran at a rate of 0.6, of 100 at 0.7, of 400 at 1.07.
BLOCK_FRAMES = 200


def encode_blocks(
    codec: Codec, pieces: Iterable[Tensor], *, num_codebooks: int | None = None, block_frames: int = BLOCK_FRAMES
) -> Iterator[Tensor]:
    """Pieces (C, t) of any lengths -> codes (C, K, n) in blocks, ⌈T / hop⌉ frames in all; none for no samples.

    Samples are floats at the codec's rate. Each channel is coded by itself. Codes come on the CPU.
    """
    hop, delay = codec.hop_length, codec.encoder_delay_frames
    device = next(codec.parameters()).device
    streams: list[Stream] = []

    def step(block: Tensor, num_valid: int) -> Tensor:
        streams.extend({} for _ in range(len(block) - len(streams)))
        rows = zip(
            block.to(device, torch.float32).split(1), streams, strict=True
        )  # one at a time: no shape depends on C
        return torch.cat(
            [codec.encode(row[:, None], num_codebooks=num_codebooks, stream=stream).cpu() for row, stream in rows]
        )

    size = block_frames * hop
    grid = _on_grid(pieces, size, unit=hop, delay=delay * hop)
    yield from _run(step, grid, device, size=size, block=block_frames, delay=delay, total=codec.frames_for)


def decode_blocks(
    codec: Codec, pieces: Iterable[Tensor], *, num_samples: int, block_frames: int = BLOCK_FRAMES
) -> Iterator[Tensor]:
    """Codes (C, k, n) in pieces of any lengths, ⌈num_samples / hop⌉ frames in all -> audio (C, t) in blocks.

    Gives `num_samples` samples, on the CPU. What the decoder sees after the end is latents of zeros.
    """
    hop, delay = codec.hop_length, codec.decoder_delay_frames
    device = next(codec.parameters()).device
    streams: list[Stream] = []

    def step(block: Tensor, num_valid: int) -> Tensor:
        streams.extend({} for _ in range(len(block) - len(streams)))
        audio = []
        for row, stream in zip(block.to(device).split(1), streams, strict=True):
            latents = codec.quantizer.decode(row)  # (1, D, block)
            latents[..., num_valid:] = 0.0
            audio.append(codec.to_audio(codec.decode_latents(latents, stream=stream))[:, 0].cpu())
        return torch.cat(audio)

    size = block_frames
    grid = _on_grid(pieces, size, unit=1, delay=delay)
    yield from _run(step, grid, device, size=size, block=size * hop, delay=delay * hop, total=lambda _: num_samples)


def run_apart(function: Callable[[], Tensor], device: torch.device) -> Tensor:
    """One other computation of a codec, under the same conditions as its blocks."""
    with _worker() as worker:
        worker.submit(_exactly, function, device)
        result: Tensor = worker.result()
        return result


def _on_grid(pieces: Iterable[Tensor], size: int, *, unit: int, delay: int) -> Iterator[list[Tensor]]:
    """The pieces cut so that each list is a block of `size`; at the end shorter ones, down to nothing, which zeros are
    to complete: as many as it takes to fill the last unit and make up for the delay."""
    held: list[Tensor] = []
    num_held = total = 0
    for piece in pieces:
        total += piece.shape[-1]
        while num_held + piece.shape[-1] >= size:
            cut = size - num_held
            yield [*held, piece[..., :cut]]
            held, num_held, piece = [], 0, piece[..., cut:]
        held.append(piece)
        num_held += piece.shape[-1]
    if total == 0:
        return
    for _ in range(-(-(num_held + -total % unit + delay) // size)):
        yield held
        held = [held[0][..., :0]]


def _run(
    step: Callable[[Tensor, int], Tensor],
    grid: Iterable[list[Tensor]],
    device: torch.device,
    *,
    size: int,
    block: int,
    delay: int,
    total: Callable[[int], int],
) -> Iterator[Tensor]:
    """The outputs of `step`, `block` long each, without the first `delay` and cut to `total(length of the input)`."""

    def complete(parts: list[Tensor], num_valid: int) -> Tensor:
        return step(F.pad(torch.cat(parts, dim=-1), (0, size - num_valid)), num_valid)

    num_in, start = 0, -delay
    for output, num_valid in _one_ahead(complete, grid, device):
        num_in += num_valid
        stop = min(start + block, total(num_in))
        if stop > max(start, 0):
            yield output[..., max(-start, 0) : stop - start]
        start += block


def _one_ahead(
    step: Callable[[list[Tensor], int], Tensor], grid: Iterable[list[Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, int]]:
    """Each block's output and the length of its input; the next block is fetched before an output is waited for."""
    with _worker() as worker:
        running: int | None = None
        for parts in grid:
            num_valid = sum(part.shape[-1] for part in parts)
            worker.submit(_exactly, step, device, parts, num_valid)
            if running is not None:
                yield worker.result(), running
            running = num_valid
        if running is not None:
            yield worker.result(), running


# ---- the same conditions everywhere


class _Worker:
    """A thread that makes calls one after the other; results are taken in the same order.

    Not concurrent.futures: an interrupt (Ctrl-C) in its wait for a result can come out as another error.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="vqaudio", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._results.put((call(), None))
            except BaseException as error:  # goes to whoever takes the result
                self._results.put((None, error))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._calls.put(partial(function, *arguments))

    def result(self) -> Any:
        result, error = self._results.get()
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self._calls.put(None)
        self._thread.join()


def _use_one_thread() -> None:
    torch.get_num_threads()  # at its first look a thread takes over the process's number: let that lie behind us
    torch.set_num_threads(1)


_starting = threading.Lock()


@contextmanager
def _worker() -> Iterator[_Worker]:
    """A worker with one torch thread; the settings of the caller and of threads started later stay as they are."""
    worker = _Worker()
    try:
        with _starting:
            num_threads = torch.get_num_threads()
            worker.submit(_use_one_thread)
            worker.result()
            # That was for the worker alone, but is now also what new threads begin with. Under the lock, because a
            # second caller would take it for its own setting.
            torch.set_num_threads(num_threads)
        yield worker
    finally:
        worker.stop()


def _exactly(function: Callable[..., Tensor], device: torch.device, *arguments: Any) -> Tensor:
    """Call `function` in float32 without gradients. A new thread starts outside autocast, so that needs no line."""
    with torch.inference_mode(), _full_float32.held(device.type):
        result = function(*arguments)
    return result.clone()  # now a normal tensor: autograd refuses to work with those of inference mode


class _FullFloat32:
    """Keeps convolutions and matrix products of a kind of device from rounding their inputs to TF32 or bfloat16.

    These settings belong to the process: the first that enters changes them, the last that leaves restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside: dict[str, int] = {}
        self._found: dict[str, list[tuple[Any, str]]] = {}

    @contextmanager
    def held(self, device_type: str) -> Iterator[None]:
        with self._lock:
            if self._num_inside.setdefault(device_type, 0) == 0:
                self._found[device_type] = [
                    (operation, operation.fp32_precision)
                    for operation in _operations(device_type)
                    if operation.fp32_precision not in ("ieee", "none")
                ]
                for operation, _ in self._found[device_type]:
                    operation.fp32_precision = "ieee"
            self._num_inside[device_type] += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_inside[device_type] -= 1
                if self._num_inside[device_type] == 0:
                    for operation, value in self._found[device_type]:
                        operation.fp32_precision = value


def _operations(device_type: str) -> tuple[Any, ...]:
    backends: Any = torch.backends  # its modules are replaced by objects that mypy does not see
    if device_type == "cpu":
        return backends.mkldnn.matmul, backends.mkldnn.conv
    if device_type == "cuda":
        return backends.cuda.matmul, backends.cudnn.conv
    return ()


_full_float32 = _FullFloat32()
