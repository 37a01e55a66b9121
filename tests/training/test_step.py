"""One step: the guard, the schedules, the dropout."""

import copy
import dataclasses
import itertools
from typing import Literal

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from vqaudio.losses import adversarial_loss, discriminator_loss, feature_matching
from vqaudio.models import Codec
from vqaudio.quantize import ResidualVQConfig, VQConfig
from vqaudio.training.recipe import Recipe, StagesConfig
from vqaudio.training.schedules import (
    adversarial_ramp,
    discriminator_learning_rate,
    dropped_codebooks,
    learning_rate,
)
from vqaudio.training.step import Objective, Plan, Player, StepResult, train_step


def do_step(
    codec: Codec,
    recipe: Recipe,
    audio: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    discriminators: Player | None = None,
    plan: Plan | None = None,
) -> StepResult:
    return train_step(
        Player(codec, optimizer, 1.0),
        Objective(recipe.losses, 16_000, game=recipe.adversarial.game),
        audio,
        plan or Plan(play=discriminators is not None),
        discriminators=discriminators,
        generator=torch.Generator().manual_seed(0),
    )


def judges(recipe: Recipe) -> Player:
    torch.manual_seed(0)
    network = recipe.adversarial.build()
    return Player(network, torch.optim.AdamW(network.parameters(), lr=1e-2), 1.0)


def speech(seed: int = 1, batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, 3200, generator=torch.Generator().manual_seed(seed)) * 0.1


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


def test_discriminators_are_clipped_by_themselves(recipe: Recipe) -> None:
    codec, opponent = recipe.codec.build(), judges(recipe)
    moving = Player(opponent.network, torch.optim.SGD(opponent.network.parameters(), lr=1.0), 1e-3)
    before = [value.detach().clone() for value in moving.network.parameters()]
    still = torch.optim.SGD(codec.parameters(), lr=0.0)
    result = do_step(codec, recipe, speech(), still, discriminators=moving)
    assert result.parts["discriminator_gradient_norm"] > 1e-3
    after = moving.network.parameters()
    moved = sum((value.detach() - old).square().sum() for value, old in zip(after, before, strict=True))
    assert float(moved) ** 0.5 == pytest.approx(1e-3, rel=1e-3)


def test_codebooks_that_learn_by_averages_may_learn_alone(recipe: Recipe) -> None:
    quantizer = dataclasses.replace(recipe.codec.quantizer, codebook_dim=0)  # type: ignore[arg-type]
    codec = dataclasses.replace(recipe.codec, quantizer=quantizer).build().requires_grad_(False)
    before = state(codec)
    assert do_step(codec, recipe, speech(), torch.optim.AdamW(codec.parameters())).ok
    moved = changed(codec, before)
    assert "quantizer.levels.0.table.vectors" in moved
    assert all(name.startswith("quantizer.") for name in moved)


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
    twin = copy.deepcopy(codec)
    twin(audio, generator=torch.Generator().manual_seed(0))
    reborn = twin.quantizer.table.vectors[5].detach()  # type: ignore[union-attr, index]
    result = do_step(codec, recipe, audio, optimizer)
    assert result.ok
    assert int(result.stats["revived"].sum()) >= 1
    assert torch.equal(moments["exp_avg"][5], torch.zeros(8))
    assert moments["exp_avg"].abs().sum() > 0
    # where the batch put it, but for the decay of all weights
    torch.testing.assert_close(codec.quantizer.table.vectors[5].detach(), reborn * (1 - 1e-3 * 1e-2))  # type: ignore[union-attr, index]


@pytest.mark.parametrize("bad", ["gradient", "loss"])
@pytest.mark.parametrize("projected", [True, False])
def test_a_batch_that_is_skipped_revives_nothing(
    recipe: Recipe, bad: str, projected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = ResidualVQConfig(
        dim=8, num_codebooks=2, codebook_size=64, codebook_dim=4 * projected, update="gradient", revive_below=0.9
    )
    codec = dataclasses.replace(recipe.codec, quantizer=chain).build()
    for level in codec.quantizer.levels:  # type: ignore[union-attr]
        level.table.ema_counts[:8] = 0.0  # type: ignore[union-attr, operator, index]
    optimizer = torch.optim.AdamW(codec.parameters())
    if bad == "gradient":
        weight = codec.decoder.get_parameter("layers.0.conv.weight")
        weight.register_hook(lambda gradient: gradient * torch.nan)
    else:
        monkeypatch.setattr(Objective, "forward", lambda *a, **k: (torch.tensor(torch.nan), {}))
    before = {name: value.detach().clone() for name, value in codec.named_parameters()}
    result = do_step(codec, recipe, speech(), optimizer)
    assert not result.ok
    assert result.stats["revived"].min() >= 8
    assert all(torch.equal(value, before[name]) for name, value in codec.named_parameters())


def test_the_learning_rate_warms_up_and_ends_at_its_fraction(recipe: Recipe) -> None:
    config = recipe.optimizer
    rates = [learning_rate(recipe, step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(config.learning_rate / 3, rel=1e-3)
    assert max(rates) == pytest.approx(config.learning_rate, rel=1e-3)
    assert rates[-1] == pytest.approx(config.learning_rate * config.final_fraction)
    assert all(a >= b for a, b in itertools.pairwise(rates[3:]))


def test_a_plateau_holds_the_learning_rate_up(recipe: Recipe) -> None:
    held = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, plateau=0.6))
    rates = [learning_rate(held, step, 1000) for step in range(1001)]
    assert rates[3] == rates[600] == pytest.approx(held.optimizer.learning_rate)
    assert rates[601] < rates[600]
    assert rates[800] == pytest.approx(held.optimizer.learning_rate * (0.5 + 0.5 * held.optimizer.final_fraction))
    assert rates[-1] == pytest.approx(held.optimizer.learning_rate * held.optimizer.final_fraction)


def test_every_stage_may_have_a_cosine_of_its_own(recipe: Recipe) -> None:
    stages = StagesConfig(reconstruction=0.5, adversarial=0.3, decoder=0.2)
    optimizer = dataclasses.replace(recipe.optimizer, cosine="stage", warmup_steps=0)
    held = dataclasses.replace(recipe, stages=stages, optimizer=optimizer)
    full, last = optimizer.learning_rate, optimizer.learning_rate * optimizer.final_fraction
    rates = [learning_rate(held, step, 1000) for step in range(1000)]
    for begin, end in ((0, 500), (500, 800), (800, 1000)):
        assert rates[begin] == pytest.approx(full)
        assert rates[(begin + end) // 2] == pytest.approx((full + last) / 2)
        assert rates[end - 1] == pytest.approx(last, rel=0.2)


def test_discriminators_warm_up_from_their_first_step(recipe: Recipe) -> None:
    adversarial = dataclasses.replace(recipe.adversarial, warmup_steps=10)
    stages = StagesConfig(reconstruction=0.5, adversarial=0.3, decoder=0.2)
    held = dataclasses.replace(recipe, adversarial=adversarial, stages=stages)
    held = dataclasses.replace(held, optimizer=dataclasses.replace(recipe.optimizer, plateau=0.9))
    assert [adversarial_ramp(held, step, 100) for step in (50, 54, 59, 90)] == [0.1, 0.5, 1.0, 1.0]
    assert discriminator_learning_rate(held, 54, 100) == pytest.approx(0.5 * adversarial.learning_rate)
    assert discriminator_learning_rate(held, 70, 100) == pytest.approx(adversarial.learning_rate)


# ---- the game


@pytest.mark.parametrize("game", ["hinge", "least_squares"])
def test_each_loss_reaches_its_own_player_and_no_other(recipe: Recipe, game: Literal["hinge", "least_squares"]) -> None:
    """The step's gradients are those of each loss by itself, computed by hand."""
    recipe = dataclasses.replace(recipe, adversarial=dataclasses.replace(recipe.adversarial, game=game))
    codec, opponent, audio = recipe.codec.build(), judges(recipe), speech()
    codec.quantizer.eval()  # so that the reference below sees the same codebooks
    reference, critics = copy.deepcopy(codec), copy.deepcopy(opponent.network)
    result = train_step(
        Player(codec, torch.optim.SGD(codec.parameters(), lr=0.0), 1e9),
        Objective(recipe.losses, 16_000, game=game),
        audio,
        Plan(play=True, ramp=0.5),
        discriminators=dataclasses.replace(opponent, clip_norm=1e9),
    )
    assert result.ok

    output = reference(audio)
    total, _ = Objective(recipe.losses, 16_000)(output, audio)
    real, fake = critics(audio), critics(output.audio)
    added = recipe.losses.adversarial * adversarial_loss(fake, game=game)
    added = added + recipe.losses.feature_matching * feature_matching(fake, real)
    wanted = torch.autograd.grad(
        total + 0.5 * added, list(reference.parameters()), retain_graph=True, allow_unused=True
    )
    for (name, parameter), gradient in zip(codec.named_parameters(), wanted, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6, msg=name)
    lowered = discriminator_loss(critics(audio), critics(output.audio.detach()), game=game)
    wanted = torch.autograd.grad(lowered, list(critics.parameters()))
    for parameter, gradient in zip(opponent.network.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_discriminators_learn_to_tell_and_the_codec_to_deceive(recipe: Recipe) -> None:
    codec, opponent = recipe.codec.build(), judges(recipe)
    still = torch.optim.SGD(codec.parameters(), lr=0.0)
    first = do_step(codec, recipe, speech(), still, discriminators=opponent).parts["discriminator"]
    for seed in range(40):
        last = do_step(codec, recipe, speech(seed), still, discriminators=opponent).parts["discriminator"]
    assert first == pytest.approx(2.0, abs=0.1)  # blind
    assert last < 1.7
    frozen = Player(opponent.network, torch.optim.SGD(opponent.network.parameters(), lr=0.0), 1.0)
    only_game = dataclasses.replace(
        recipe.losses, mel=0, magnitude=0, complex=0, waveform_l1=0, commitment=0, residual=0, adversarial=1.0
    )
    moving = torch.optim.AdamW(codec.parameters(), lr=1e-3)
    against = dataclasses.replace(recipe, losses=only_game)
    values = [
        do_step(codec, against, speech(seed), moving, discriminators=frozen).parts["adversarial"] for seed in range(40)
    ]
    assert values[-1] < values[0] - 0.1


def test_the_loss_that_is_logged_means_the_same_in_every_stage(recipe: Recipe) -> None:
    codec, audio = recipe.codec.build().eval(), speech()
    still = torch.optim.SGD(codec.parameters(), lr=0.0)
    alone = do_step(codec, recipe, audio, still)
    playing = do_step(codec, recipe, audio, still, discriminators=judges(recipe))
    torch.testing.assert_close(alone.parts["loss"], playing.parts["loss"])
    assert {"adversarial", "feature_matching", "discriminator", "discriminator_gradient_norm"} <= set(playing.parts)
    assert not {"adversarial", "discriminator"} & set(alone.parts)


def test_the_loss_of_sound_leaves_the_quantisers_out(recipe: Recipe) -> None:
    objective, audio = Objective(recipe.losses, 16_000), speech()
    output = recipe.codec.build().eval()(audio)
    total, parts = objective(output, audio)
    assert set(output.losses) == {"commitment", "residual"}
    quantizer = sum(getattr(recipe.losses, name) * parts[name] for name in output.losses)
    torch.testing.assert_close(objective.of_sound(output, parts), total - quantizer)


@pytest.mark.parametrize(("name", "held_back"), [("compressed_magnitude", True), ("compressed_complex", False)])
def test_compressed_spectra_count_where_the_recipe_weighs_them(recipe: Recipe, name: str, held_back: bool) -> None:
    audio, codec = speech(), recipe.codec.build().eval()
    weighing = Objective(dataclasses.replace(recipe.losses, **{name: 0.5}), 16_000)
    for magnitudes in (1.0, 0.0):
        without, parts = Objective(recipe.losses, 16_000)(codec(audio), audio, magnitudes=magnitudes)
        assert name not in parts
        total, parts = weighing(codec(audio), audio, magnitudes=magnitudes)
        counted = 0.5 * (magnitudes if held_back else 1.0)
        torch.testing.assert_close(total, without + counted * parts[name])


@pytest.mark.parametrize("bad", ["audio", "codec", "discriminators"])
def test_what_is_not_finite_moves_neither_player(recipe: Recipe, bad: str) -> None:
    codec, opponent, audio = recipe.codec.build(), judges(recipe), speech()
    optimizer = torch.optim.AdamW(codec.parameters())
    if bad == "audio":
        audio[0, 0, 7] = torch.inf
    elif bad == "codec":
        codec.decoder.get_parameter("layers.0.conv.weight").register_hook(lambda gradient: gradient * torch.nan)
    else:
        next(opponent.network.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    parameters = [*codec.parameters(), *opponent.network.parameters()]
    before = [value.detach().clone() for value in parameters]
    assert not do_step(codec, recipe, audio, optimizer, discriminators=opponent).ok
    assert all(torch.equal(value, old) for value, old in zip(parameters, before, strict=True))
    assert not optimizer.state and not opponent.optimizer.state


def test_bfloat16_stays_near_float32(recipe: Recipe) -> None:
    """Losses within 2 %, the decoder's gradient within 15 degrees; the quantiser itself computes in float32."""
    results, gradients = [], []
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(3)
        codec, opponent = recipe.codec.build(), judges(recipe)
        plan = Plan(play=True, quantize=False, precision=precision)  # codes flip, and the rest with them
        still = torch.optim.SGD(codec.parameters(), lr=0.0)
        results.append(do_step(codec, recipe, speech(), still, discriminators=opponent, plan=plan))
        gradients.append(torch.cat([p.grad.flatten() for p in codec.decoder.parameters() if p.grad is not None]))
    exact, rounded = results
    assert exact.ok and rounded.ok
    for name in ("loss", "mel", "complex", "waveform_l1", "discriminator"):
        assert exact.parts[name] != rounded.parts[name], name
        assert rounded.parts[name] == pytest.approx(float(exact.parts[name]), rel=0.02), name
    assert torch.cosine_similarity(*gradients, dim=0) > 0.966


def test_codes_under_bfloat16_are_those_of_a_float32_quantiser(recipe: Recipe) -> None:
    torch.manual_seed(3)
    codec, audio = recipe.codec.build().eval(), speech()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = codec(audio)
        latents = codec.encode_latents(audio)
    assert output.audio.dtype == latents.dtype == torch.float32
    assert torch.equal(output.codes, codec.quantizer.encode(latents))


# ---- dropout


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
