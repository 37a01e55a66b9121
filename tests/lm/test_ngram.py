"""The n-gram: it is a probability, it uses what it is said to use, and it is as good as can be where that is known."""

import math

import numpy as np
import pytest

from tests.lm.small import chained_codes
from vqaudio.lm.ngram import Context, contexts_of, ngram_bits


def mean_bits(sizes: tuple[int, ...], parts: list[np.ndarray]) -> np.ndarray:
    train, valid, test = parts
    found = ngram_bits([train], [valid], [test], codebook_sizes=sizes)
    mean: np.ndarray = found[0].mean(axis=1)
    return mean


def test_probabilities_sum_to_one() -> None:
    sizes = (3, 4)
    train, valid = chained_codes(sizes, 300), chained_codes(sizes, 100, seed=1)
    test = chained_codes(sizes, 5, seed=2)
    for k, size in enumerate(sizes):
        others = [test.copy() for _ in range(size)]
        for code, other in enumerate(others):
            other[k, 3] = code
        found = ngram_bits([train], [valid], others, codebook_sizes=sizes)
        assert sum(2 ** -bits[k, 3] for bits in found) == pytest.approx(1, abs=1e-9)


def test_it_comes_near_the_entropy_of_a_chain() -> None:
    """Each code follows from two that the n-gram sees, but for one in ten, which is any."""
    sizes = (8, 8)
    found = mean_bits(sizes, [chained_codes(sizes, count, seed=count) for count in (20_000, 3_000, 3_001)])
    hit = 0.9 + 0.1 / 8
    entropy = -(hit * math.log2(hit) + 7 * 0.0125 * math.log2(0.0125))
    assert (found < entropy + 0.06).all() and (found > entropy - 0.08).all()  # by chance a little below


def test_where_nothing_can_be_learnt_it_says_so() -> None:
    draw = np.random.default_rng(0)
    parts = [draw.integers(0, 16, (2, count)) for count in (4_000, 2_000, 2_000)]
    assert mean_bits((16, 16), parts) == pytest.approx(4.0, abs=0.05)


def test_each_recording_begins_afresh() -> None:
    """The frame before the first is none, and not the last of the recording before."""
    sizes = (6, 6)
    train = [chained_codes(sizes, 40, seed=seed) for seed in range(30)]
    valid = [chained_codes(sizes, 40, seed=seed) for seed in range(30, 40)]
    one, other = (chained_codes(sizes, 10, seed=seed) for seed in (50, 51))
    found = ngram_bits(train, valid, [one, other], codebook_sizes=sizes)
    alone = ngram_bits(train, valid, [other], codebook_sizes=sizes)
    assert [bits.shape for bits in found] == [(2, 10), (2, 10)]
    np.testing.assert_allclose(found[1], alone[0], rtol=1e-9)


def test_codes_never_seen_cost_a_finite_number_of_bits() -> None:
    train, valid = np.zeros((1, 50), np.int64), np.array([[0, 1, 0, 0, 2, 0]])
    (bits,) = ngram_bits([train], [valid], [np.array([[3, 2, 1, 0]])], codebook_sizes=(4,))
    assert np.isfinite(bits).all() and bits[0, 0] > bits[0, 3]


def test_contexts_are_of_several_orders() -> None:
    assert contexts_of(0, 1) == (Context((), ()), Context((0,), ()))
    found = contexts_of(2, 3)
    assert len(found) == len(set(found)) == 1 + 5 + 10 + 1
    assert found[-1] == Context((2,), (0, 1)) and all(max(c.lower, default=0) < 2 for c in found)


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ([], "no frames in valid"),
        ([np.zeros((3, 4), np.int64)], r"codes in valid have shape \(3, 4\); wanted is \(2, N\)"),
    ],
)
def test_what_cannot_be_fitted_is_refused(valid: list[np.ndarray], message: str) -> None:
    train = [np.zeros((2, 4), np.int64)]
    with pytest.raises(ValueError, match=message):
        ngram_bits(train, valid, train, codebook_sizes=(2, 2))
