"""Any audio that comes in, as one thing: a path, a binary file object, an array of numpy or torch -> a `Source`."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOBase
from operator import index
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from vqaudio.dsp import Resampler, mix_down, resampled_length
from vqaudio.io import AudioError, inspect_audio, read_blocks

AudioLike = str | Path | BinaryIO | np.ndarray | Tensor

BLOCK_SAMPLES = 65536  # of a source, read at a time
MOST_CHANNELS = 64  # of an array; one with more is (T, C) by mistake

# Of floats; what is beyond is 16-bit PCM, nearly always. Quieter than that are the first 0.4 % of its range.
LOUDEST = 128.0

# What integer samples are worth: value · scale + offset lies in [-1, 1).
PCM_SCALES = {"int16": (2.0**-15, 0.0), "int32": (2.0**-31, 0.0), "uint8": (2.0**-7, -1.0)}
FLOATS = ("float16", "bfloat16", "float32", "float64")


class AudioWarning(UserWarning):
    """Audio that can be coded, and is hardly what was meant."""


@dataclass(frozen=True)
class Source:
    sample_rate: int  # Hz
    num_samples: int  # per channel
    channels: int
    read: Callable[[int, int], Iterator[Tensor]]  # samples start to stop -> blocks (C, T) float32, finite

    def at_rate(
        self, rate: int, *, start: int, stop: int, mix: bool, progress: Callable[[float], None] | None
    ) -> Iterator[Tensor]:
        """Samples `start` to `stop` of the source as it is at another rate, as pieces (1 or C, t).

        They are those of the whole, bit for bit, and nothing is read that does not decide them. `progress` is told
        after every block read, which part that was up to, 0 to 1.
        """
        resampler = Resampler(self.sample_rate, rate)
        first, position = resampler.start_at(start)
        last = min(resampler.num_inputs_for(stop), self.num_samples)
        num_read = 0
        for piece in self._resampled(resampler, first, last, mix):
            skipped = min(max(0, start - position), piece.shape[-1])
            kept = piece[:, skipped : max(skipped, stop - position)]
            position += piece.shape[-1]
            yield kept
            num_read = min(num_read + BLOCK_SAMPLES, last - first)
            if progress is not None:
                progress(num_read / max(1, last - first))

    def _resampled(self, resampler: Resampler, first: int, last: int, mix: bool) -> Iterator[Tensor]:
        for block in self.read(first, last):
            yield resampler.push(mix_down(block) if mix else block)
        yield resampler.finish()

    def num_samples_at(self, rate: int) -> int:
        return resampled_length(self.num_samples, self.sample_rate, rate)


def open_source(audio: AudioLike, sample_rate: int | None, *, default_rate: int) -> Source:
    """`sample_rate` in Hz is that of an array (None: `default_rate`); a file knows its own, and another is refused.

    AudioError for what is no audio; what is truncated or holds NaN or infinity is found on reading.
    """
    given = None if sample_rate is None else checked_rate(sample_rate)
    if isinstance(audio, np.ndarray | Tensor):
        return _open_array(audio, default_rate if given is None else given)
    if not isinstance(audio, str | Path) and not hasattr(audio, "read"):
        kinds = "a path, a binary file object, a numpy array or a torch tensor"
        raise AudioError(f"audio is a {type(audio).__name__}; wanted is {kinds}")
    if isinstance(audio, TextIOBase):
        raise AudioError(f"{getattr(audio, 'name', 'the file object')}: is open as text; open it with mode 'rb'")
    info = inspect_audio(audio)
    if given not in (None, info.sample_rate):
        raise AudioError(f"{info.name}: is at {info.sample_rate} Hz, not {given}; a file's rate need not be given")

    def read(start: int, stop: int) -> Iterator[Tensor]:
        return read_blocks(audio, block_samples=BLOCK_SAMPLES, start=start, stop=stop)

    return Source(info.sample_rate, info.num_samples, info.channels, read)


def _open_array(audio: np.ndarray | Tensor, sample_rate: int) -> Source:
    dtype = audio.dtype.name if isinstance(audio, np.ndarray) else str(audio.dtype).removeprefix("torch.")
    if dtype not in FLOATS and dtype not in PCM_SCALES:
        wanted = f"floats in [-1, 1], or PCM as {', '.join(PCM_SCALES)}"
        raise AudioError(f"the audio array is {dtype}; wanted are {wanted}")
    if audio.ndim not in (1, 2):
        wanted = "(T,) or (C, T), one recording; encode_batch takes several"
        raise AudioError(f"the audio array has shape {tuple(audio.shape)}; wanted is {wanted}")
    rows = audio[None] if audio.ndim == 1 else audio
    if len(rows) == 0:
        raise AudioError(f"the audio array has shape {tuple(audio.shape)}, no channels; wanted is (T,) or (C, T)")
    if len(rows) > MOST_CHANNELS:
        raise AudioError(
            f"the audio array has shape {tuple(audio.shape)}, {len(rows)} channels; wanted is (C, T): transpose "
            "it? encode_batch takes several recordings"
        )
    scale, offset = PCM_SCALES.get(dtype, (1.0, 0.0))

    def read(start: int, stop: int) -> Iterator[Tensor]:
        return array_blocks(rows, start, stop, scale, offset)

    return Source(sample_rate, rows.shape[1], len(rows), read)


def array_blocks(rows: np.ndarray | Tensor, first: int, last: int, scale: float, offset: float) -> Iterator[Tensor]:
    """Samples `first` to `last` of an array (C, T) as blocks (C, t) float32, each value · scale + offset."""
    for start in range(first, last, BLOCK_SAMPLES):
        part = rows[:, start : min(start + BLOCK_SAMPLES, last)]
        if isinstance(part, Tensor):
            block = part.detach().to("cpu", torch.float32)
        else:
            with np.errstate(over="ignore"):  # becomes infinite, which is refused below
                block = torch.from_numpy(part.astype(np.float32, order="C"))
        if (scale, offset) != (1.0, 0.0):
            block = block * scale + offset
        finite = np.isfinite(block.numpy())  # not by torch, for the reason given at `engine.grid.joined`
        if not finite.all():
            channel, sample = np.argwhere(~finite)[0].tolist()
            value = float(rows[channel, start + sample])
            raise AudioError(
                f"the audio array: sample {start + sample} of channel {channel} is {value}, not a finite float32"
            )
        if scale == 1.0 and np.abs(block.numpy()).max(initial=0.0) > LOUDEST:
            warnings.warn(
                "the audio array has samples beyond 128, and floats are nominally in [-1, 1]: is it PCM that was made "
                "float and not scaled? It is coded as it is",
                AudioWarning,
                stacklevel=2,
            )
        yield block


def checked_rate(sample_rate: object) -> int:
    try:
        rate = index(sample_rate)  # type: ignore[arg-type]  # that is what is being found out
    except TypeError:
        rate = 0
    if rate < 1 or isinstance(sample_rate, bool):
        raise AudioError(f"sample_rate is {sample_rate!r}; it must be a positive integer number of Hz")
    return rate
