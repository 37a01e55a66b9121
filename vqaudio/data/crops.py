"""Training crops from packs: batch number `step` is a pure function of (seed, step).

Every item of every batch has a global index, step * batch_size + b, and draws from its own counter-based generator
(Philox keyed by seed and index). So a resumed run sees the batches it would have seen, and ranks that share the batches
out see together what one process would see alone.
"""

import math
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqaudio.data.packed import FULL_SCALE, Clip, PackedAudio

_PEAK = 1.0 - 2.0**-20  # a hair below full scale, so that rounding cannot carry a sample above 1


@dataclass(frozen=True)
class Batch:
    audio: Tensor  # (B, 1, T) float32
    names: tuple[str, ...]  # the clip each crop came from


class CropSampler:
    """Draws crops of `crop_samples` samples at the pack's rate.

    A clip is drawn in proportion to its length, a place in it uniformly; a clip shorter than the crop is followed by
    zeros. With `full_edges_probability` the crop is laid over the real start or end of a recording, with up to half a
    crop of digital silence outside it, as a codec meets them in files:

        start  |0 0 0 a b c d e|      end  |v w x y z 0 0 0|

    Then a gain drawn uniformly in dB from `gain_db`, lowered where the peak would exceed 1, and a random polarity.
    With `silence_probability` all of the crop is digital silence, with `partial_silence_probability` one stretch of it
    is, an eighth to a half of its length.

    `batch_size` is that of all `num_ranks` processes together; rank r gets the r-th of `num_ranks` consecutive shares,
    which differ by one item at most.
    """

    def __init__(
        self,
        packed: PackedAudio,
        *,
        crop_samples: int,
        batch_size: int,
        seed: int,
        gain_db: tuple[float, float] = (-10.0, 6.0),
        full_edges_probability: float = 0.1,
        silence_probability: float = 0.02,
        partial_silence_probability: float = 0.02,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if crop_samples < 1 or not 0 <= rank < num_ranks <= batch_size:
            raise ValueError(
                f"crops need at least 1 sample and each rank 1 item: crop_samples {crop_samples}, "
                f"batch_size {batch_size}, rank {rank} of {num_ranks}"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be in 0 … 2^64 - 1, got {seed}")
        if not gain_db[0] <= gain_db[1] < math.inf or gain_db[0] == -math.inf:
            raise ValueError(f"gain_db must be (lowest, highest) in finite dB, got {gain_db}")
        for probability in (full_edges_probability, silence_probability, partial_silence_probability):
            if not 0.0 <= probability <= 1.0:
                raise ValueError(f"a probability must be in [0, 1], got {probability}")
        self.packed = packed
        self.crop_samples = crop_samples
        self.batch_size = batch_size
        self.seed = seed
        self.gain_db = gain_db
        self.full_edges_probability = full_edges_probability
        self.silence_probability = silence_probability
        self.partial_silence_probability = partial_silence_probability
        self.rank = rank
        self.num_ranks = num_ranks
        self._ends = np.cumsum([clip.num_samples for clip in packed.clips])

    def batch(self, step: int) -> Batch:
        """This rank's share of batch `step` (0, 1, …): audio (B, 1, T) float32 in [-1, 1]."""
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        first = self.batch_size * self.rank // self.num_ranks
        last = self.batch_size * (self.rank + 1) // self.num_ranks
        items = [self.item(step * self.batch_size + b) for b in range(first, last)]
        audio = torch.from_numpy(np.stack([crop for crop, _ in items]))
        return Batch(audio[:, None, :], tuple(name for _, name in items))

    def item(self, index: int) -> tuple[NDArray[np.float32], str]:
        """The crop (T,) with global index `index`, and the name of its clip."""
        generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], dtype=np.uint64)))
        drawn = int(np.searchsorted(self._ends, generator.integers(self._ends[-1]), side="right"))
        clip = self.packed.clips[drawn]
        left, start, stop = self._place(generator, clip)
        crop = np.zeros(self.crop_samples, dtype=np.float32)
        crop[left : left + stop - start] = self.packed.read(drawn, start, stop)
        crop *= np.float32(self._gain(generator, float(np.abs(crop).max()) / FULL_SCALE) / FULL_SCALE)
        self._silence(generator, crop)
        return crop, clip.name

    def _place(self, generator: np.random.Generator, clip: Clip) -> tuple[int, int, int]:
        """(zeros before, first sample, last sample + 1) of a crop in `clip`."""
        T, length = self.crop_samples, clip.num_samples
        edges = ["start"] * clip.has_file_start + ["end"] * clip.has_file_end
        if edges and generator.random() < self.full_edges_probability:
            edge = edges[generator.integers(len(edges))]
            outside = int(generator.integers(T // 2 + 1))
            inside = min(T - outside, length)
            return (outside, 0, inside) if edge == "start" else (0, length - inside, length)
        start = int(generator.integers(max(length - T, 0) + 1))
        return 0, start, min(start + T, length)

    def _gain(self, generator: np.random.Generator, peak: float) -> float:
        gain = 10.0 ** (generator.uniform(*self.gain_db) / 20)
        if gain * peak > _PEAK:
            gain = _PEAK / peak
        return gain if generator.random() < 0.5 else -gain

    def _silence(self, generator: np.random.Generator, crop: NDArray[np.float32]) -> None:
        draw = generator.random()
        if draw < self.silence_probability:
            crop[:] = 0.0
        elif generator.random() < self.partial_silence_probability:
            T = len(crop)
            length = int(generator.integers(T // 8, T // 2 + 1))
            start = int(generator.integers(T - length + 1))
            crop[start : start + length] = 0.0


def prefetch(sampler: CropSampler, start: int, stop: int, *, depth: int = 4) -> Iterator[Batch]:
    """Yield batches `start` … `stop` - 1 in order, with a thread that prepares up to `depth` of them ahead.

    An error in the thread is raised here, in its place. Leaving the loop early (or closing the iterator) ends the
    thread before control returns.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    ready: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
    slots = threading.Semaphore(depth)
    closed = threading.Event()

    def work() -> None:
        try:
            for step in range(start, stop):
                slots.acquire()
                if closed.is_set():
                    return
                ready.put(sampler.batch(step))
        except BaseException as error:  # whatever it is, the reader must not wait for ever
            ready.put(error)

    thread = threading.Thread(target=work, name="vqaudio-prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            result = ready.get()
            if isinstance(result, BaseException):
                raise result
            slots.release()
            yield result
    finally:
        closed.set()
        slots.release()
        thread.join()


def validation_clips(
    packed: PackedAudio, *, seconds: float, count: int, sample_rate: int, seed: int = 0
) -> list[tuple[str, Tensor]]:
    """Up to `count` excerpts (1, T) float32 with their clips' names, spread over speakers, then over their clips.

    Speakers take turns in an order drawn from `seed`; each gives its clips in drawn order, those of at least `seconds`
    first. An excerpt has `seconds` and lies anywhere in its clip; a shorter clip comes whole. A clip is used once, so
    a small split gives fewer than `count`. ValueError if `sample_rate` is not that of the packs.
    """
    if sample_rate != packed.sample_rate:
        raise ValueError(f"{packed.folder}: packed at {packed.sample_rate} Hz, but {sample_rate} Hz is wanted")
    wanted = round(seconds * sample_rate)
    if wanted < 1 or count < 1:
        raise ValueError(f"validation needs at least one clip of one sample, got count {count} of {seconds} s")
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))
    by_speaker: dict[str, list[int]] = {}
    for index in generator.permutation(len(packed)).tolist():
        by_speaker.setdefault(packed.clips[index].speaker, []).append(index)
    for indices in by_speaker.values():
        indices.sort(key=lambda index: packed.clips[index].num_samples < wanted)  # stable: drawn order within
    speakers = [sorted(by_speaker)[number] for number in generator.permutation(len(by_speaker))]
    turns = max(len(indices) for indices in by_speaker.values())
    order = [by_speaker[name][turn] for turn in range(turns) for name in speakers if turn < len(by_speaker[name])]
    excerpts = []
    for index in order[:count]:
        clip = packed.clips[index]
        length = min(wanted, clip.num_samples)
        start = int(generator.integers(clip.num_samples - length + 1))
        samples = packed.read(index, start, start + length).astype(np.float32) / np.float32(FULL_SCALE)
        excerpts.append((clip.name, torch.from_numpy(samples)[None]))
    return excerpts
