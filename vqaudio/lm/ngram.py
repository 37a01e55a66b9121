"""What counting alone predicts: an interpolated n-gram over the previous frame and the lower levels of the same frame.

A code c of level k in frame n is predicted from what lies in frame n - 1 (all levels) and below it in frame n:

    level 1   p1   c        p0 p1: the previous frame, a value of its own before the first
    level 0   p0   l0       l0: the lower levels of this frame

Every context (nothing, each of these variables, each pair, and level k's previous code with all lower levels) counts
which codes followed it in training. Their relative frequencies are mixed, with the uniform distribution below them:

    P(c | all) = Σ_m w_m f_m(c | context m),    w_m ∝ exp(a_m[bucket of how often context m was seen, and how varied])

A context that was never seen has no weight; the others are weighed by how far they can be trusted (Jelinek and Mercer,
1980, with Witten and Bell's number of kinds for their trust). The `a` are fitted on validation recordings, by their
likelihood: some hundred numbers for each level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

COUNT_BUCKETS, VARIETY_BUCKETS = 14, 4
MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that products modulo 2^64 lose nothing; Knuth's golden ratio
FIT_STEPS, FIT_RATE = 150, 0.1
Codebooks = Sequence[np.ndarray]  # recordings (K, N)


@dataclass(frozen=True)
class Context:
    """Which variables are looked at: levels of the previous frame, and lower levels of this one."""

    previous: tuple[int, ...]
    lower: tuple[int, ...]


def contexts_of(level: int, num_levels: int) -> tuple[Context, ...]:
    """None, one and two variables, and the previous code of the level with all lower ones."""
    variables = [(0, other) for other in range(num_levels)] + [(1, other) for other in range(level)]
    found = [Context((), ())]
    for size in (1, 2):
        for chosen in combinations(variables, size):
            found.append(_context(chosen))
    whole = Context((level,), tuple(range(level)))
    return tuple(found if whole in found else [*found, whole])


def ngram_bits(
    train: Codebooks, valid: Codebooks, test: Codebooks, *, codebook_sizes: Sequence[int]
) -> list[np.ndarray]:
    """Bits (K, N) of every code of the test recordings. Counts are of `train`, weights are fitted on `valid`."""
    for name, recordings in (("train", train), ("valid", valid), ("test", test)):
        if not sum(codes.shape[-1] for codes in recordings):
            raise ValueError(f"there are no frames in {name}; an n-gram is counted, fitted and tested on some")
        for codes in recordings:
            if codes.ndim != 2 or len(codes) != len(codebook_sizes):
                raise ValueError(f"codes in {name} have shape {codes.shape}; wanted is ({len(codebook_sizes)}, N)")
    counted, fitted, tested = (_Frames.of(recordings, codebook_sizes) for recordings in (train, valid, test))
    rows = [_level_bits(counted, fitted, tested, k, size) for k, size in enumerate(codebook_sizes)]
    ends = np.cumsum([codes.shape[-1] for codes in test])[:-1]
    return np.split(np.stack(rows), ends, axis=1)


# ---- variables


@dataclass(frozen=True)
class _Frames:
    """All recordings in a row: codes (K, N) and those of the frame before, which is one more than any code at first."""

    codes: np.ndarray
    previous: np.ndarray

    @classmethod
    def of(cls, recordings: Codebooks, codebook_sizes: Sequence[int]) -> "_Frames":
        first = np.asarray(codebook_sizes, dtype=np.int64)[:, None]
        shifted = [np.concatenate([first, codes[:, :-1]], axis=1) for codes in recordings if codes.shape[-1]]
        return cls(
            np.concatenate([np.asarray(c, dtype=np.int64) for c in recordings], axis=1), np.concatenate(shifted, 1)
        )

    def keys(self, context: Context) -> np.ndarray:
        """(N,) uint64, the same where all variables of the context are."""
        key = np.zeros(self.codes.shape[1], dtype=np.uint64)
        for row in (*self.previous[list(context.previous)], *self.codes[list(context.lower)]):
            key = _with(key, row)
        return key


def _context(chosen: Sequence[tuple[int, int]]) -> Context:
    return Context(tuple(k for lower, k in chosen if not lower), tuple(k for lower, k in chosen if lower))


def _with(key: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A key and one more value, hashed to 64 bits: among millions of keys two fall together once in a million runs."""
    mixed: np.ndarray = (key ^ (key >> np.uint64(29))) * MIXER + values.astype(np.uint64) + np.uint64(1)
    return mixed


# ---- counting


@dataclass(frozen=True)
class _Seen:
    """How a context answers at some places: the relative frequency of the code that came, and its bucket of trust."""

    frequency: np.ndarray  # (N,)
    bucket: np.ndarray  # (N,) int64; -1 where the context was never seen


def _counted(counted: _Frames, asked: Sequence[_Frames], context: Context, level: int) -> list[_Seen]:
    keys = counted.keys(context)
    pairs, pair_counts = np.unique(_with(keys, counted.codes[level]), return_counts=True)
    contexts, totals = np.unique(keys, return_counts=True)
    kinds = _kinds(keys, counted.codes[level], contexts)
    answers = []
    for frames in asked:
        own = frames.keys(context)
        place, found = _look_up(contexts, own)
        total, kind = totals[place], kinds[place]
        pair, together = _look_up(pairs, _with(own, frames.codes[level]))
        frequency = np.where(found & together, pair_counts[pair] / total, 0.0)
        size = np.minimum(np.log2(total).astype(np.int64), COUNT_BUCKETS - 1)
        variety = np.minimum((kind * VARIETY_BUCKETS - 1) // total, VARIETY_BUCKETS - 1)
        answers.append(_Seen(frequency, np.where(found, size * VARIETY_BUCKETS + variety, -1)))
    return answers


def _kinds(keys: np.ndarray, codes: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """How many different codes followed each context."""
    _, first = np.unique(_with(keys, codes), return_index=True)
    return np.bincount(np.searchsorted(contexts, keys[first]), minlength=len(contexts))


def _look_up(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each key is among the known, and whether it is."""
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return place, known[place] == asked


# ---- mixing


def _level_bits(counted: _Frames, fitted: _Frames, tested: _Frames, level: int, size: int) -> np.ndarray:
    contexts = contexts_of(level, len(counted.codes))
    answers = [_counted(counted, (fitted, tested), context, level) for context in contexts]
    (valid_f, valid_b), (test_f, test_b) = (
        (
            torch.from_numpy(np.stack([answer[part].frequency for answer in answers], axis=1)),
            torch.from_numpy(np.stack([answer[part].bucket for answer in answers], axis=1)),
        )
        for part in (0, 1)
    )  # each (N, M)
    weights = _fit(valid_f, valid_b, size)
    bits: np.ndarray = _bits(weights, test_f, test_b, size).numpy()
    return bits


def _bits(weights: Tensor, frequency: Tensor, bucket: Tensor, size: int) -> Tensor:
    """(N,), of a mixture: `weights` (M + 1, buckets) are its logits, the last row that of the uniform distribution."""
    M = frequency.shape[1]
    logits = weights[torch.arange(M), bucket.clamp(min=0)].masked_fill(bucket < 0, -torch.inf)  # (N, M)
    logits = torch.cat([logits, weights[M, :1].expand(len(logits), 1)], dim=1)
    values = torch.cat([frequency, torch.full((len(frequency), 1), 1.0 / size, dtype=frequency.dtype)], dim=1)
    return -torch.log2((logits.softmax(dim=1) * values).sum(dim=1))


def _fit(frequency: Tensor, bucket: Tensor, size: int) -> Tensor:
    weights = torch.zeros(
        frequency.shape[1] + 1, COUNT_BUCKETS * VARIETY_BUCKETS, dtype=frequency.dtype, requires_grad=True
    )
    optimizer = torch.optim.Adam([weights], lr=FIT_RATE)
    for _ in range(FIT_STEPS):
        optimizer.zero_grad()
        loss: Tensor = _bits(weights, frequency, bucket, size).mean()
        loss.backward()
        optimizer.step()
    return weights.detach()
