"""Sample rates, channels and mel filters: what audio meets between a file and a model.

The resampler is a windowed sinc (Kaiser) in polyphase form. With source_rate : target_rate = M : L in lowest terms,
output m lies at input position m · M / L, so L outputs use L different filters, and M inputs later the same again:

    input      |  M  |  M  |  M  | ...        one row of `taps` inputs times a matrix gives a group of outputs;
    output     |  L  |  L  |  L  | ...        a period is several groups, a block several periods

A block has always as many rows, and blocks begin at multiples of the block length, so a sample is computed by the same
arithmetic at the same shape however the input came in: results are byte-identical. The products are numpy's, which
does them one block and channel at a time, and which neither autocast nor torch's precision switches touch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# Flat to 0.88 of the lower Nyquist frequency, 90 dB down from that frequency on, by Kaiser's formulas (1974).
ZERO_CROSSINGS = 48  # of the sinc, on each side
KAISER_BETA = 9.0
ROLLOFF = 0.94  # the middle of the transition, as a fraction of the lower Nyquist frequency

GROUP_OUTPUTS = 32  # wide enough for BLAS; wider groups multiply more zeros
PRODUCT_LIMIT = 2**18  # multiplications; beyond, OpenBLAS starts threads, and their number shows in the last bits
BLOCK_SECONDS = 0.04  # what the grid adds to the latency of live audio; 0.02 takes nearly twice the time


def resampled_length(num_samples: int, source_rate: int, target_rate: int) -> int:
    """ceil(num_samples · target_rate / source_rate), in integers."""
    return -(-num_samples * target_rate // source_rate)


def resample(audio: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """(C, T) at `source_rate` -> (C, ceil(T · target_rate / source_rate)) at `target_rate`, in Hz; see `Resampler`."""
    resampler = Resampler(source_rate, target_rate)
    return torch.cat([resampler.push(audio), resampler.finish()], dim=1)


class Resampler:
    """Resample a stream: `push` chunks (C, T) of any lengths, then `finish`; in all ceil(n · target / source) samples.

    Output sample m stands for the instant m / target_rate (the filter's delay is taken out), the signal is zero before
    its start and after its end, and the output depends on neither the chunks nor the other channels, byte for byte.
    Equal rates pass through. `finish` leaves the resampler as new. The result is float32 on the CPU.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for name, rate in (("source_rate", source_rate), ("target_rate", target_rate)):
            if not isinstance(rate, int) or rate < 1:
                raise ValueError(f"{name} is {rate!r}; it must be a positive integer number of Hz")
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._bank = None if source_rate == target_rate else _filter_bank(source_rate, target_rate)
        self._reset()

    def _reset(self) -> None:
        self._pending: np.ndarray | None = None  # (C, T): input from `context` samples before the next block on
        self._channels: int | None = None
        self._num_silent = 0 if self._bank is None else self._bank.context  # zeros before the first input
        self._num_pushed = 0  # counted from the beginning of the signal
        self._num_given = 0

    def start_at(self, output: int) -> tuple[int, int]:
        """Leave out the beginning of the signal: what is to be pushed first, and which output that gives first.

        Both are positions in the whole signal; the output is the last one not after `output` on the grid.
        """
        self._reset()
        if self._bank is None:
            self._num_pushed = self._num_given = output
            return output, output
        block = output // self._bank.block_outputs
        before = block * self._bank.block_inputs - self._bank.context
        self._num_pushed, self._num_silent = max(0, before), max(0, -before)
        self._num_given = block * self._bank.block_outputs
        return self._num_pushed, self._num_given

    def num_inputs_for(self, num_outputs: int) -> int:
        """How many samples from the beginning of the signal decide the first `num_outputs` of the output."""
        if self._bank is None or num_outputs == 0:
            return num_outputs
        return (num_outputs - 1) * self.source_rate // self.target_rate + self._bank.context + 1

    def state(self) -> tuple[dict[str, int], Tensor | None]:
        """Everything that the outputs to come depend on: numbers, and the input (C, T) that is kept for them."""
        numbers = {"num_silent": self._num_silent, "num_pushed": self._num_pushed, "num_given": self._num_given}
        numbers["channels"] = self._channels or 0
        return numbers, None if self._pending is None else torch.from_numpy(self._pending.copy())

    def restore(self, numbers: Mapping[str, int], pending: Tensor | None) -> None:
        """Go on where the resampler was that `state` was taken of."""
        self._num_silent, self._num_pushed = numbers["num_silent"], numbers["num_pushed"]
        self._num_given, self._channels = numbers["num_given"], numbers["channels"] or None
        self._pending = None if pending is None else pending.numpy().copy()

    @property
    def delay_samples(self) -> int:
        """An output for instant t is given at the latest when the input has come to t plus this many source samples."""
        return 0 if self._bank is None else self._bank.block_span - self._bank.context

    def push(self, audio: Tensor) -> Tensor:
        """The output (C, T') that the input so far settles, beyond what was given before; T' may be 0."""
        if audio.ndim != 2 or len(audio) == 0:
            raise ValueError(
                f"audio to resample is (C, T) with C of 1 or more, and this has shape {tuple(audio.shape)}"
            )
        if self._channels not in (None, len(audio)):
            raise ValueError(f"a chunk of {len(audio)} channels follows one of {self._channels}; they must be the same")
        self._channels = len(audio)
        self._num_pushed += audio.shape[1]
        samples = audio.detach().to("cpu", torch.float32)
        if self._bank is None:
            return samples
        if self._pending is None:
            self._pending = np.zeros((self._channels, self._num_silent), np.float32)
        self._pending = np.concatenate([self._pending, samples.numpy()], axis=1)
        return self._take((self._pending.shape[1] - self._bank.block_span) // self._bank.block_inputs + 1)

    def finish(self) -> Tensor:
        """The rest (C, T') of the output, which takes zeros for the input to come; (1, 0) if nothing was pushed."""
        rest = torch.zeros(self._channels or 1, 0, dtype=torch.float32)
        if self._bank is not None and self._pending is not None:
            remaining = resampled_length(self._num_pushed, self.source_rate, self.target_rate) - self._num_given
            num_blocks = -(-remaining // self._bank.block_outputs)
            missing = max(
                0, (num_blocks - 1) * self._bank.block_inputs + self._bank.block_span - self._pending.shape[1]
            )
            self._pending = np.pad(self._pending, ((0, 0), (0, missing)))
            rest = self._take(num_blocks)[:, :remaining]
        self._reset()
        return rest

    def _take(self, num_blocks: int) -> Tensor:
        """The output of the next `num_blocks` blocks, which leave `_pending`."""
        bank, pending = self._bank, self._pending
        assert bank is not None and pending is not None
        if num_blocks <= 0:
            return torch.zeros(len(pending), 0, dtype=torch.float32)
        outputs = bank.apply(pending, num_blocks)
        self._pending = pending[:, num_blocks * bank.block_inputs :].copy()
        self._num_given += outputs.shape[1]
        return torch.from_numpy(outputs)


@dataclass(frozen=True, eq=False)
class _FilterBank:
    """The filters of one ratio as matrices, and the grid they are applied on; see the module's drawing."""

    matrices: np.ndarray  # (groups, taps, outputs of a group) float32
    starts: tuple[int, ...]  # where each group's taps begin in a period, counted from `context` before it
    context: int  # inputs before an output that it depends on
    period_inputs: int
    period_outputs: int
    periods: int  # of a block

    @property
    def block_inputs(self) -> int:
        return self.periods * self.period_inputs

    @property
    def block_outputs(self) -> int:
        return self.periods * self.period_outputs

    @property
    def block_span(self) -> int:
        """Inputs that one block reads, `context` included."""
        return (self.periods - 1) * self.period_inputs + self.starts[-1] + self.matrices.shape[1]

    def apply(self, samples: np.ndarray, num_blocks: int) -> np.ndarray:
        """(C, T) that begins `context` before the first block -> (C, num_blocks · block_outputs)."""
        samples = np.ascontiguousarray(samples)
        groups, taps, group_outputs = self.matrices.shape
        outputs = np.empty((len(samples), num_blocks, self.periods, groups * group_outputs), np.float32)
        channel_stride, stride = samples.strides
        for group, start in enumerate(self.starts):
            rows = np.lib.stride_tricks.as_strided(
                samples[:, start:],
                (len(samples), num_blocks, self.periods, taps),
                (channel_stride, self.block_inputs * stride, self.period_inputs * stride, stride),
                writeable=False,
            )
            first = group * group_outputs
            outputs[..., first : first + group_outputs] = np.ascontiguousarray(rows) @ self.matrices[group]
        return outputs[..., : self.period_outputs].reshape(len(samples), -1)


@lru_cache(maxsize=8)
def _filter_bank(source_rate: int, target_rate: int) -> _FilterBank:
    divisor = math.gcd(source_rate, target_rate)
    repeats = -(-GROUP_OUTPUTS * divisor // target_rate)  # 48 -> 16 kHz: one output a period would make thin products
    period_inputs, period_outputs = source_rate // divisor * repeats, target_rate // divisor * repeats
    groups = -(-period_outputs // GROUP_OUTPUTS)
    group_outputs = -(-period_outputs // groups)

    cutoff = ROLLOFF * min(1.0, target_rate / source_rate)  # as a fraction of the source's Nyquist frequency
    reach = ZERO_CROSSINGS / cutoff  # of the filter on each side, in source samples
    context = math.ceil(reach)
    output = np.arange(groups * group_outputs).reshape(groups, 1, group_outputs)
    starts = output[:, 0, 0] * period_inputs // period_outputs
    last = output[:, 0, -1] * period_inputs // period_outputs
    taps = int((last - starts).max()) + 2 * context + 1
    tap = starts[:, None, None] - context + np.arange(taps)[None, :, None]
    # In integers up to the division, so that outputs a period apart get the same filter.
    time = (output * period_inputs - tap * period_outputs) / period_outputs  # (groups, taps, group_outputs)
    matrices = np.zeros(time.shape)
    inside = np.abs(time) < reach
    time = time[inside]
    kaiser = torch.i0(torch.from_numpy(KAISER_BETA * np.sqrt(1 - (time / reach) ** 2))).numpy()  # np.i0 is slow
    matrices[inside] = np.sinc(cutoff * time) * kaiser
    matrices /= matrices.sum(axis=1, keepdims=True)  # every phase passes a constant unchanged
    matrices = matrices.astype(np.float32)
    matrices.setflags(write=False)
    periods = min(round(BLOCK_SECONDS * source_rate / period_inputs), PRODUCT_LIMIT // (taps * group_outputs))
    return _FilterBank(matrices, tuple(starts.tolist()), context, period_inputs, period_outputs, max(1, periods))


def mix_down(audio: Tensor) -> Tensor:
    """The mean over the channels, (C, T) -> (1, T); one channel is given back as it is.

    A sum of whole rows: as fast as a product with a vector, and no sample depends on how many stand beside it.
    """
    if audio.ndim != 2 or len(audio) == 0:
        raise ValueError(f"audio to mix down is (C, T) with C of 1 or more, and this has shape {tuple(audio.shape)}")
    if len(audio) == 1:
        return audio
    rows = audio.detach().numpy()  # by numpy, for the reason given at `engine.grid.joined`
    total = rows[0] + rows[1]
    for channel in rows[2:]:
        total += channel
    return torch.from_numpy(total / len(rows))[None]


def mel_filterbank(
    *, sample_rate: int, fft_size: int, num_mels: int, min_hz: float = 0.0, max_hz: float | None = None
) -> Tensor:
    """Triangles that sum the bins of a spectrum into mel bands: (num_mels, fft_size // 2 + 1) float32.

    Slaney's scale (linear to 1 kHz, logarithmic above) and norm (each triangle of area 1), as librosa.filters.mel has
    them. Where bands are narrower than a bin, some are empty. `max_hz` None: half the sample rate.
    """
    max_hz = sample_rate / 2 if max_hz is None else max_hz
    if not 0 <= min_hz < max_hz <= sample_rate / 2:
        raise ValueError(f"mel bands from {min_hz} to {max_hz} Hz do not lie within 0 to {sample_rate / 2} Hz")
    if num_mels < 1 or fft_size < 2:
        raise ValueError(f"{num_mels} mels of {fft_size} FFT points were asked for; at least 1 and 2 are needed")
    mels = torch.linspace(_hz_to_mel(min_hz), _hz_to_mel(max_hz), num_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))  # Hz
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * sample_rate / fft_size
    widths = edges.diff()[:, None]  # (num_mels + 1, 1)
    distances = bins - edges[:, None]  # (num_mels + 2, bins)
    rising, falling = distances[:-2] / widths[:-1], -distances[2:] / widths[1:]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (edges[2:] - edges[:-2])[:, None]).float()


def _hz_to_mel(frequency_hz: float) -> float:
    """Slaney's scale, Auditory Toolbox (1998): 15 mels to 1 kHz, then 27 to a factor of 6.4."""
    if frequency_hz < 1000:
        return frequency_hz * 3 / 200
    return 15 + 27 * math.log(frequency_hz / 1000) / math.log(6.4)
