"""Point-wise layers against their formulas."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from vqaudio.nn import ChannelNorm, LevelCompressor, LevelExpander, Snake


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(x=st.floats(-20, 20), alpha=st.floats(0.05, 5.0), sign=st.sampled_from([-1, 1]))
def test_snake_is_x_plus_the_squared_sine_over_alpha(x: float, alpha: float, sign: int) -> None:
    snake = Snake(1).double()
    snake.alpha.data.fill_(sign * alpha)  # the sign of a learned α has no meaning
    expected = x + math.sin((alpha + 1e-4) * x) ** 2 / (alpha + 1e-4)
    value = snake(torch.full((1, 1, 1), x, dtype=torch.float64)).item()
    assert value == pytest.approx(expected, abs=1e-9)


def test_snake_has_one_alpha_per_channel() -> None:
    snake = Snake(2)
    snake.alpha.data[:] = torch.tensor([[0.5], [3.0]])
    x = random(4, 2, 10)
    expected = torch.stack([x[:, 0] + torch.sin(0.5 * x[:, 0]) ** 2 / 0.5, x[:, 1] + torch.sin(3 * x[:, 1]) ** 2 / 3])
    torch.testing.assert_close(snake(x), expected.transpose(0, 1), atol=1e-3, rtol=1e-3)


def test_snake_keeps_silence() -> None:
    snake = Snake(3)
    snake.alpha.data[:] = torch.tensor([[0.0], [1.0], [100.0]])
    assert torch.equal(snake(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


def test_snake_near_alpha_zero_is_the_identity() -> None:
    snake = Snake(1)
    snake.alpha.data.zero_()
    x = torch.linspace(-1, 1, 21).view(1, 1, -1)
    torch.testing.assert_close(snake(x), x, atol=2e-4, rtol=0)


def test_snake_gradient_is_that_of_its_formula() -> None:
    snake = Snake(3).double()
    snake.alpha.data[:] = torch.tensor([[0.3], [-1.0], [2.0]])
    x = random(2, 3, 4, dtype=torch.float64).requires_grad_()

    def function(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(snake, {"alpha": alpha}, (x,))

    assert torch.autograd.gradcheck(function, (x, snake.alpha))


def test_channel_norm_divides_each_frame_by_its_own_level() -> None:
    norm = ChannelNorm(2)
    norm.gain.data[:] = torch.tensor([[1.0], [10.0]])
    x = torch.tensor([[[3.0, 0.0, 300.0], [4.0, 0.0, 400.0]]])  # root mean square 5 / √2, 0, 500 / √2
    expected = torch.tensor([[[0.6, 0.0, 0.6], [8.0, 0.0, 8.0]]]) * math.sqrt(2)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


def test_channel_norm_frames_do_not_meet() -> None:
    norm, x = ChannelNorm(4), random(2, 4, 6)
    one_by_one = torch.cat([norm(frame) for frame in x.split(1, dim=-1)], dim=-1)
    torch.testing.assert_close(norm(x), one_by_one, atol=1e-6, rtol=1e-6)


@given(gain_db=st.floats(-15, 40))
def test_channel_norm_takes_the_level_out(gain_db: float) -> None:
    norm, x = ChannelNorm(8), random(1, 8, 5)
    torch.testing.assert_close(norm(x * 10 ** (gain_db / 20)), norm(x), atol=0.02, rtol=0)


def test_channel_norm_gradient_is_finite_in_silence() -> None:
    norm, x = ChannelNorm(4), torch.zeros(1, 4, 3, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@given(level_db=st.floats(-40, 40))
def test_level_is_halved_in_decibels_and_comes_back(level_db: float) -> None:
    x = random(1, 8, 5)
    x = x / x.square().mean(dim=1, keepdim=True).sqrt() * 10 ** (level_db / 20)
    compressed = LevelCompressor()(x)
    level = compressed.square().mean(dim=1).sqrt()
    torch.testing.assert_close(20 * level.log10(), torch.full((1, 5), level_db / 2), atol=0.1, rtol=0)
    torch.testing.assert_close(LevelExpander()(compressed), x, atol=0, rtol=0.01)
    # the direction of each frame is kept
    torch.testing.assert_close(torch.cosine_similarity(compressed, x, dim=1), torch.ones(1, 5))


@pytest.mark.parametrize("layer", [LevelCompressor(), LevelExpander()])
def test_companding_keeps_silence_with_a_finite_slope_and_frames_apart(layer: torch.nn.Module) -> None:
    x = torch.zeros(1, 4, 3, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert not out.any()
    assert x.grad is not None and x.grad.abs().max() < 40
    mixed = random(1, 4, 6)
    one_by_one = torch.cat([layer(frame) for frame in mixed.split(1, dim=-1)], dim=-1)
    torch.testing.assert_close(layer(mixed), one_by_one)
