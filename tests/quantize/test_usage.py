"""Use, entropy and perplexity of codebooks."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from vqaudio.quantize import CodeUsage


@pytest.mark.parametrize("size", [1, 2, 7, 1024])
def test_uniform_codes_have_the_perplexity_of_the_codebook(size: int) -> None:
    usage = CodeUsage((size,))
    usage.add(torch.arange(size).repeat(3).view(1, 1, -1))
    assert usage.perplexity == [pytest.approx(size)]
    assert usage.entropy_bits == [pytest.approx(math.log2(size))]
    assert usage.used == [size]


def test_constant_codes_have_perplexity_one() -> None:
    usage = CodeUsage((16,))
    usage.add(torch.full((2, 1, 9), 5))
    assert usage.perplexity == [1.0]
    assert usage.entropy_bits == [0.0]
    assert usage.used == [1]


def test_half_and_two_quarters() -> None:
    usage = CodeUsage((4,))
    usage.add(torch.tensor([[0, 0, 1, 3]]))
    assert usage.entropy_bits == [pytest.approx(1.5)]


def test_nothing_seen_is_no_information() -> None:
    usage = CodeUsage((4, 4))
    usage.add(torch.zeros(1, 2, 0, dtype=torch.int64))
    assert usage.used == [0, 0] and usage.entropy_bits == [0.0, 0.0]


@given(seed=st.integers(0, 1000), cut=st.integers(0, 30))
def test_batches_add_up(seed: int, cut: int) -> None:
    codes = torch.randint(0, 8, (3, 2, 30), generator=torch.Generator().manual_seed(seed))
    codes[:, 1] %= 3
    whole, parts, by_item = CodeUsage((8, 3)), CodeUsage((8, 3)), CodeUsage((8, 3))
    whole.add(codes)
    parts.add(codes[..., :cut])
    parts.add(codes[..., cut:])
    for item in codes:
        by_item.add(item)  # (K, N), without a batch
    for usage in (parts, by_item):
        assert usage.perplexity == whole.perplexity and usage.used == whole.used
        assert all(map(torch.equal, usage.counts, whole.counts))
    for level in range(2):
        expected = [int((codes[:, level] == code).sum()) for code in range(len(whole.counts[level]))]
        assert whole.counts[level].tolist() == expected


def test_fewer_codebooks_than_announced() -> None:
    usage = CodeUsage((4, 4))
    usage.add(torch.zeros(1, 1, 5, dtype=torch.int64))
    assert [counts.sum().item() for counts in usage.counts] == [5, 0]
