"""Finite scalar quantisation: a grid whose every point is a code, and every code a point."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from vqaudio.quantize import ScalarLevel

some_levels = (
    st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple).filter(lambda levels: math.prod(levels) < 600)
)
tens = settings(max_examples=10)


def grid(levels: tuple[int, ...]) -> ScalarLevel:
    """A level whose projections are the identity, so that latents are the code space."""
    level = ScalarLevel(len(levels), levels)
    for projection in (level.project_in, level.project_out):
        projection.weight.data.copy_(torch.eye(len(levels)))
        projection.bias.data.zero_()
    return level


def before_bounding(points: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Latents (M, d) that the paper's bounding (its eq. 1 and appendix) takes to these grid points."""
    columns = []
    for column, count in zip(points.double().t(), levels, strict=True):
        half = (count - 1) * 1.001 / 2
        offset = 0.5 if count % 2 == 0 else 0.0
        bounded = column * (count // 2)
        columns.append(torch.atanh((bounded + offset) / half) - math.atanh(offset / half))
    return torch.stack(columns, dim=1).float()


@tens
@given(levels=some_levels)
def test_every_code_is_reached_by_its_own_point_and_no_other(levels: tuple[int, ...]) -> None:
    level, codes = grid(levels), torch.arange(math.prod(levels))
    assert level.size == len(codes)
    points = level.embed(codes).detach()
    assert len(points.unique(dim=0)) == len(codes)
    assert torch.equal(level.select(before_bounding(points, levels)), codes)


@tens
@given(levels=some_levels)
def test_dimensions_have_exactly_their_number_of_values(levels: tuple[int, ...]) -> None:
    level = grid(levels)
    # from far below to far above, one dimension at a time and all together
    sweep = torch.linspace(-30, 30, 3_001)
    points = level.embed(level.select(sweep[:, None].repeat(1, len(levels)))).detach()
    for column, count in zip(points.t(), levels, strict=True):
        assert len(column.unique()) == count
        assert column.min() == -1.0 and column.max() <= 1.0
        assert (column.diff() >= 0).all()


@pytest.mark.parametrize("count", [2, 3, 8, 9, 999, 1000])
def test_extremes_land_on_the_outermost_values(count: int) -> None:
    codes = grid((count,)).select(torch.tensor([[-1e6], [1e6]]))
    assert codes.tolist() == [0, count - 1]


@pytest.mark.parametrize("count", [3, 5, 9])
def test_odd_counts_are_symmetrical_about_zero(count: int) -> None:
    level = grid((count,))
    points = level.embed(torch.arange(count)).detach()
    torch.testing.assert_close(points, -points.flip(0))
    x = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(level.select(-x), count - 1 - level.select(x))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_even_counts_reach_minus_one_and_have_zero(count: int) -> None:
    points = grid((count,)).embed(torch.arange(count)).detach().flatten()
    torch.testing.assert_close(points, torch.arange(-count // 2, count // 2) / (count / 2))


def test_code_is_the_mixed_radix_number_of_its_digits() -> None:
    points = grid((4, 3, 5)).embed(torch.tensor([0, 1, 4, 12, 59])).detach()
    digits = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 2, 4]])
    torch.testing.assert_close(points, (digits - torch.tensor([2, 1, 2])) / torch.tensor([2.0, 1.0, 2.0]))


@pytest.mark.parametrize("levels", [(5,), (4, 3), (8, 5, 5, 5)])
def test_gradient_is_that_of_the_bounding_without_the_rounding(levels: tuple[int, ...]) -> None:
    level = ScalarLevel(6, levels)
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    upstream = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    level(x).contribution.backward(upstream)
    counts = torch.tensor(levels, dtype=torch.float32)
    half = (counts - 1) * 1.001 / 2
    shift = torch.atanh(torch.where(counts % 2 == 0, 0.5, 0.0) / half)
    y = (x @ level.project_in.weight.t() + level.project_in.bias + shift).detach()
    slope = half * (1 - torch.tanh(y).square()) / (counts / 2).floor()
    expected = ((upstream @ level.project_out.weight) * slope) @ level.project_in.weight
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected.detach(), atol=1e-6, rtol=1e-4)


def test_residual_loss_moves_the_read_out_alone() -> None:
    level = ScalarLevel(6, (5, 5))
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = level(x)
    expected = (x.detach() - level.embed(out.indices)).square().mean(dim=-1)
    torch.testing.assert_close(out.losses["residual"], expected)
    out.losses["residual"].sum().backward()
    assert x.grad is None and level.project_in.weight.grad is None
    assert level.project_out.weight.grad is not None


def test_fit_fills_the_grid() -> None:
    x = torch.randn(2_000, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 5, 3, 1, 0.1, 0.1]) + 4.0
    level = ScalarLevel(6, (5, 5, 5))
    level.fit(x, generator=torch.Generator())
    codes = level.select(x)
    assert len(codes.unique()) == 125
    # its read-out is the least-squares one: the error is orthogonal to the code's points
    error = x - level.embed(codes).detach()
    assert error.mean(dim=0).abs().max() < 0.02
    assert error.square().sum() < 0.3 * (x - x.mean(dim=0)).square().sum()


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8])
def test_after_the_fit_all_values_of_a_dimension_are_in_use(count: int) -> None:
    """The mean lies in the middle of the grid, also of a grid that has no middle value."""
    x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2, 1]) + 4.0
    level = ScalarLevel(3, (count,) * 3)
    level.fit(x, generator=torch.Generator())
    uses = torch.bincount(level.select(x), minlength=count**3) / len(x)
    assert uses.min() > 0
    perplexity = torch.exp(-(uses * uses.clamp(min=1e-9).log()).sum())
    assert perplexity > 0.7 * count**3
