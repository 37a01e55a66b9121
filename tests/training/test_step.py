"""One step: the guard, the schedules, the dropout."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from vqaudio.models import Codec
from vqaudio.quantize import VQConfig
from vqaudio.training.recipe import Recipe
from vqaudio.training.step import Objective, StepResult, dropped_codebooks, learning_rate, train_step


def do_step(codec: Codec, recipe: Recipe, audio: Tensor, optimizer: torch.optim.Optimizer) -> StepResult:
    return train_step(
        codec,
        Objective(recipe.losses, 16_000),
        optimizer,
        audio,
        num_codebooks=None,
        generator=torch.Generator().manual_seed(0),
        quantize=True,
        clip_norm=1.0,
    )


def state(codec: Codec) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in codec.state_dict().items()}


def changed(codec: Codec, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in codec.state_dict().items() if not torch.equal(value, before[name])}


def test_a_good_batch_moves_every_part(recipe: Recipe) -> None:
    codec = recipe.codec.build()
    before = state(codec)
    audio = torch.randn(2, 1, 3200, generator=torch.Generator().manual_seed(1)) * 0.1
    assert do_step(codec, recipe, audio, torch.optim.AdamW(codec.parameters())).ok
    moved = changed(codec, before)
    for part in ("encoder", "quantizer.levels.0.project_in", "quantizer.levels.2.table.vectors", "decoder"):
        assert any(name.startswith(part) for name in moved), part


def test_a_gradient_that_is_not_finite_changes_no_weight(recipe: Recipe) -> None:
    codec = recipe.codec.build()
    optimizer = torch.optim.AdamW(codec.parameters())
    weight = codec.decoder.get_parameter("layers.0.conv.weight")
    weight.register_hook(lambda gradient: gradient * torch.nan)
    before = {name: value.detach().clone() for name, value in codec.named_parameters()}
    result = do_step(codec, recipe, torch.randn(2, 1, 3200) * 0.1, optimizer)
    assert not result.ok
    assert result.parts["loss"].isfinite()
    assert all(torch.equal(value, before[name]) for name, value in codec.named_parameters())
    assert not optimizer.state


def test_gradients_are_clipped_to_the_norm(recipe: Recipe) -> None:
    codec = recipe.codec.build()
    optimizer = torch.optim.SGD(codec.parameters(), lr=1.0)
    before = {name: value.detach().clone() for name, value in codec.named_parameters()}
    result = do_step(codec, recipe, torch.randn(2, 1, 3200), optimizer)
    assert result.parts["gradient_norm"] > 1.0
    moved = sum((value.detach() - before[name]).square().sum() for name, value in codec.named_parameters())
    assert float(moved) ** 0.5 == pytest.approx(1.0, rel=1e-3)


def test_revived_codes_lose_the_momentum_of_the_dead(recipe: Recipe) -> None:
    quantizer = VQConfig(dim=8, codebook_size=16, update="gradient", revive_below=0.5)
    codec = dataclasses.replace(recipe.codec, quantizer=quantizer).build()
    optimizer = torch.optim.AdamW(codec.parameters())
    audio = torch.randn(2, 1, 3200, generator=torch.Generator().manual_seed(1)) * 0.1
    do_step(codec, recipe, audio, optimizer)
    moments = optimizer.state[codec.quantizer.table.vectors]  # type: ignore[union-attr, index]
    moments["exp_avg"].fill_(1.0)
    codec.quantizer.table.ema_counts.fill_(1.0)  # type: ignore[union-attr, operator]
    codec.quantizer.table.ema_counts[5] = 0.0  # type: ignore[union-attr, operator, index]
    with torch.no_grad():
        codec.quantizer.table.vectors[5] = 1e3  # type: ignore[union-attr, index]
    result = do_step(codec, recipe, audio, optimizer)
    assert result.ok
    assert int(result.stats["revived"].sum()) >= 1
    assert torch.equal(moments["exp_avg"][5], torch.zeros(8))
    assert moments["exp_avg"].abs().sum() > 0


def test_the_learning_rate_warms_up_and_ends_at_its_fraction(recipe: Recipe) -> None:
    config = recipe.optimizer
    rates = [learning_rate(recipe, step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(config.learning_rate / 3, rel=1e-3)
    assert max(rates) == pytest.approx(config.learning_rate, rel=1e-3)
    assert rates[-1] == pytest.approx(config.learning_rate * config.final_fraction)
    assert all(a >= b for a, b in itertools.pairwise(rates[3:]))


@given(first=st.integers(0, 10**6), size=st.integers(1, 12), cut=st.integers(0, 12))
def test_dropout_belongs_to_the_item_not_to_the_batch(first: int, size: int, cut: int) -> None:
    recipe, cut = Recipe(name="r", seed=3), min(cut, size)
    whole = dropped_codebooks(recipe, first, size, 8)
    parts = [dropped_codebooks(recipe, first, cut, 8), dropped_codebooks(recipe, first + cut, size - cut, 8)]
    assert whole.tolist() == [value for part in parts for value in part.tolist()]
    assert all(1 <= value <= 8 for value in whole.tolist())


def test_dropout_happens_as_often_as_it_says() -> None:
    counts = dropped_codebooks(Recipe(name="r"), 0, 4000, 8)
    # half of the items keep all; of the other half one in eight draws all as well
    assert (counts == 8).float().mean() == pytest.approx(0.5 + 0.5 / 8, abs=0.03)
    assert (counts == 1).float().mean() == pytest.approx(0.5 / 8, abs=0.02)
