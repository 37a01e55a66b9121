"""Residual chains: exact gradients, commitment from every level, and energy that falls level by level."""

import copy
from typing import Literal, cast

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.quantize.test_base import rotation
from vqaudio.quantize import FSQConfig, ResidualQuantizer, ResidualVQConfig
from vqaudio.quantize.residual import VectorLevel

D, K, V = 6, 3, 12
FORMS = {
    "unprojected": {"codebook_dim": 0},
    "projected": {"codebook_dim": 3},
    "normalised": {"codebook_dim": 3, "normalize": True},
}
every_form = pytest.mark.parametrize("form", FORMS)
projected_forms = pytest.mark.parametrize("form", ["projected", "normalised"])
both_updates = pytest.mark.parametrize("update", ["ema", "gradient"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated(num_rows: int, dim: int, seed: int = 0) -> Tensor:
    """(M, dim) with energy that falls from direction to direction, and an offset."""
    mix = torch.linalg.qr(torch.randn(dim, dim, generator=seeded(50)))[0] * torch.logspace(0, -1, dim)[:, None]
    return torch.randn(num_rows, dim, generator=seeded(seed)) @ mix + 0.3


def latents(batch: int, frames: int, seed: int = 0) -> Tensor:
    return correlated(batch * frames, D, seed).view(batch, frames, D).transpose(1, 2).contiguous()


def chain(form: str, update: str = "ema", through: str = "straight_through") -> ResidualQuantizer:
    """K fitted levels, in training mode but with averages that stand still."""
    config = ResidualVQConfig(
        dim=D,
        num_codebooks=K,
        codebook_size=V,
        update=update,
        through=through,
        **FORMS[form],  # type: ignore[arg-type]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        quantizer = config.build()
    quantizer.fit(correlated(300, D, seed=9), generator=seeded())
    return quantizer.eval()


def levels_of(quantizer: ResidualQuantizer) -> list[VectorLevel]:
    return [cast(VectorLevel, level) for level in quantizer.levels]


# ---- law 4, unprojected: the decoder's gradient, whole and once


@both_updates
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_gradient_of_unprojected_levels_is_the_decoders(update: str, data: st.DataObject, seed: int) -> None:
    numbers = torch.tensor(data.draw(st.lists(st.integers(1, K), min_size=4, max_size=4)))
    z = latents(4, 5, seed).requires_grad_()
    upstream = torch.randn(4, D, 5, generator=seeded(seed + 1))
    chain("unprojected", update)(z, num_codebooks=numbers).latents.backward(upstream)
    assert z.grad is not None and torch.equal(z.grad, upstream)


# ---- law 4, projected: against the mathematics written out once more


def reference_gradient(quantizer: ResidualQuantizer, z: Tensor, upstream: Tensor, numbers: list[int]) -> Tensor:
    """dL/dz for dL/dq = `upstream`, both (B, D, N), frame by frame in plain algebra.

    q = Σ_k W_out,k c_k + b with c_k taken for y_k = n(W_in,k r_k + b), and r_k = z less constants. So
    dL/dz = Σ_k W_in,kᵀ J_kᵀ W_out,kᵀ g, where J = (I - u uᵀ) / |y| for normalised look-up and I otherwise, times
    |c| / |y| R from the left for the rotation trick, whose R turns y onto c.
    """
    grad = torch.zeros_like(z)
    for item, number in enumerate(numbers):
        for frame in range(z.shape[-1]):
            residual = z[item, :, frame]
            for level in levels_of(quantizer)[:number]:
                W_in, W_out = level.project_in.weight, level.project_out.weight
                y = W_in @ residual + level.project_in.bias
                jacobian = torch.eye(len(y))
                if level.table.normalize:
                    unit = y / y.norm()
                    jacobian = (jacobian - torch.outer(unit, unit)) / y.norm()
                    y = unit
                codes = level.table.codes
                code = codes[(codes - y).square().sum(dim=-1).argmin()]
                if level.through == "rotation":
                    jacobian = code.norm() / y.norm() * rotation(y, code) @ jacobian
                grad[item, :, frame] += W_in.t() @ jacobian.t() @ W_out.t() @ upstream[item, :, frame]
                residual = residual - (W_out @ code + level.project_out.bias)
    return grad


@projected_forms
@pytest.mark.parametrize(
    ("update", "through"), [("ema", "straight_through"), ("gradient", "rotation"), ("simvq", "straight_through")]
)
@settings(max_examples=5)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_gradient_of_projected_levels_is_that_of_the_reference(
    form: str, update: str, through: str, data: st.DataObject, seed: int
) -> None:
    numbers = data.draw(st.lists(st.integers(1, K), min_size=3, max_size=3))
    quantizer = chain(form, update, through)
    z = latents(3, 4, seed).requires_grad_()
    upstream = torch.randn(3, D, 4, generator=seeded(seed + 1))
    quantizer(z, num_codebooks=torch.tensor(numbers)).latents.backward(upstream)
    with torch.no_grad():
        expected = reference_gradient(quantizer, z, upstream, numbers)
    assert z.grad is not None
    torch.testing.assert_close(z.grad, expected, atol=1e-4, rtol=1e-4)


@projected_forms
@both_updates
def test_projections_learn_from_the_decoder_and_codebooks_do_not(form: str, update: str) -> None:
    quantizer = chain(form, update)
    quantizer(latents(2, 5)).latents.square().sum().backward()
    for level in levels_of(quantizer):
        for parameter in (level.project_in.weight, level.project_out.weight, level.project_out.bias):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0
        assert level.table.vectors.grad is None


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_rotation_of_unprojected_levels_is_that_of_their_sum(seed: int) -> None:
    quantizer = chain("unprojected", through="rotation")
    z = latents(2, 3, seed).requires_grad_()
    upstream = torch.randn(2, D, 3, generator=seeded(seed + 1))
    out = quantizer(z).latents
    out.backward(upstream)
    assert z.grad is not None
    for item in range(2):
        for frame in range(3):
            a, b = z[item, :, frame].detach(), out[item, :, frame].detach()
            expected = b.norm() / a.norm() * rotation(a, b).t() @ upstream[item, :, frame]
            torch.testing.assert_close(z.grad[item, :, frame], expected, atol=1e-4, rtol=1e-4)


# ---- losses


@every_form
@both_updates
def test_commitment_of_every_level_reaches_the_encoder(form: str, update: str) -> None:
    quantizer = chain(form, update)
    for index, level in enumerate(levels_of(quantizer)):
        z = latents(2, 5).requires_grad_()
        losses = quantizer(z).losses["commitment"]
        assert losses.shape == (K,)
        losses[index].backward()
        # by hand: the residual of this level is z less what the levels before said, a constant
        rows = z.detach().transpose(1, 2).reshape(-1, D)
        with torch.no_grad():
            for before in levels_of(quantizer)[:index]:
                rows = rows - before.embed(before.select(rows))
        rows.requires_grad_()
        y = level.project_in(rows) if level.projected else rows
        y = F.normalize(y, dim=-1) if level.table.normalize else y
        with torch.no_grad():
            codes = level.table.vectors[torch.cdist(y, level.table.vectors).argmin(dim=-1)]
        loss = (y - codes).square().sum(dim=-1).mean()
        torch.testing.assert_close(losses[index].detach(), loss.detach(), atol=1e-5, rtol=1e-4)
        (expected,) = torch.autograd.grad(loss, rows)
        assert z.grad is not None and expected.abs().max() > 1e-4
        torch.testing.assert_close(z.grad.transpose(1, 2).reshape(-1, D), expected, atol=1e-5, rtol=1e-3)


@every_form
def test_codebook_loss_moves_the_codes_of_its_level_alone(form: str) -> None:
    quantizer, z = chain(form, "gradient"), latents(2, 5).requires_grad_()
    out = quantizer(z)
    out.losses["codebook"][1].backward()
    assert z.grad is None or z.grad.abs().max() == 0
    for index, level in enumerate(levels_of(quantizer)):
        grad = level.table.vectors.grad
        assert (grad is not None and bool(grad.abs().max() > 0)) == (index == 1)
        if grad is not None:
            unused = torch.ones(V, dtype=torch.bool)
            unused[out.codes[:, index].unique()] = False
            assert grad[unused].abs().sum() == 0


def test_averages_take_the_place_of_the_codebook_loss() -> None:
    assert "codebook" not in chain("projected", "ema")(latents(1, 5)).losses


@projected_forms
def test_residual_loss_moves_the_read_out_alone(form: str) -> None:
    quantizer, z = chain(form), latents(2, 5).requires_grad_()
    quantizer(z).losses["residual"].sum().backward()
    assert z.grad is None or z.grad.abs().max() == 0
    for level in levels_of(quantizer):
        assert level.project_in.weight.grad is None
        assert level.project_out.weight.grad is not None and level.project_out.weight.grad.abs().max() > 0


# ---- energy


@pytest.mark.parametrize("form", [*FORMS, "fsq"])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_energy_falls_from_level_to_level(form: str, seed: int) -> None:
    """The trap: levels that all say the same leave 1.1 to 1.4 of the energy, however many there are."""
    if form == "fsq":
        quantizer = FSQConfig(dim=12, num_codebooks=5, levels=(5, 5, 5)).build()
    else:
        quantizer = ResidualVQConfig(dim=12, num_codebooks=5, codebook_size=64, **FORMS[form]).build()  # type: ignore[arg-type]
    quantizer.fit(correlated(1_000, 12, seed), generator=seeded(seed))
    # on other data of the same kind
    fresh = correlated(1_000, 12, seed + 1).t()[None]
    energy = quantizer.eval()(fresh).stats["residual_energy"]
    assert energy.shape == (5,)
    assert energy[0] < 0.9
    assert (energy.diff() < 0).all(), energy
    # the number is what it says: what is left, relative to the variance
    left = (fresh - quantizer.decode(quantizer.encode(fresh))).square().sum()
    variance = (fresh - fresh.mean(dim=-1, keepdim=True)).square().sum()
    torch.testing.assert_close(energy[-1], left / variance, atol=1e-4, rtol=1e-3)


# ---- learning


@every_form
def test_levels_learn_from_the_items_that_use_them(form: str) -> None:
    quantizer = chain(form).train()
    z = latents(3, 40)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(z, num_codebooks=torch.tensor([1, 2, 2]), generator=seeded())
    moved = {key for key, value in quantizer.state_dict().items() if not torch.equal(value, before[key])}
    assert {"levels.0.table.vectors", "levels.1.table.vectors"} <= moved
    # nothing met the third level, so its vectors stay (its counts fade evenly, which means nothing)
    torch.testing.assert_close(quantizer.state_dict()["levels.2.table.vectors"], before["levels.2.table.vectors"])
    one_level_for_one = chain(form).train()
    one_level_for_one(z[1:], num_codebooks=2, generator=seeded())
    for name in ("vectors", "ema_counts", "ema_sums"):
        key = f"levels.1.table.{name}"
        torch.testing.assert_close(quantizer.state_dict()[key], one_level_for_one.state_dict()[key])


@every_form
def test_revived_rows_name_their_parameter(form: str) -> None:
    quantizer = chain(form, "gradient").train()
    for level in levels_of(quantizer):
        level.table.ema_decay, level.table.revive_below = 0.5, 0.3
    told: list[int] = []
    for seed in range(4):
        before = [level.table.vectors.detach().clone() for level in levels_of(quantizer)]
        out = quantizer(latents(1, 20, seed), generator=seeded(seed))
        changed = {
            index: (level.table.vectors.detach() != before[index]).any(dim=-1).nonzero().flatten().tolist()
            for index, level in enumerate(levels_of(quantizer))
        }
        named = {
            index: reborn.rows.tolist()
            for index, level in enumerate(levels_of(quantizer))
            for reborn in out.revived
            if reborn.vectors is level.table.vectors
        }
        assert named == {index: rows for index, rows in changed.items() if rows}
        assert out.stats["revived"].tolist() == [len(rows) for rows in changed.values()]
        told += [row for rows in named.values() for row in rows]
        for reborn in out.revived:
            reborn.undo()
        assert all(
            torch.equal(level.table.vectors.detach(), old)
            for level, old in zip(levels_of(quantizer), before, strict=True)
        )
    assert told, "nothing was revived, so nothing was shown"


@pytest.mark.parametrize(("form", "update"), [("unprojected", "ema"), ("projected", "ema"), ("normalised", "gradient")])
def test_training_lowers_the_error_and_every_level_takes_part(form: str, update: Literal["ema", "gradient"]) -> None:
    """All parts together, from a random start: what a decoder asks for, the losses, averages and revival."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        config = ResidualVQConfig(
            dim=D,
            num_codebooks=K,
            codebook_size=V,
            update=update,
            ema_decay=0.8,
            **FORMS[form],  # type: ignore[arg-type]
        )
        quantizer = config.build()
    fresh = latents(1, 300, seed=1)
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.05, fused=True) if parameters else None
    for step in range(80):
        z = latents(1, 60, 100 + step)
        out = quantizer.train()(z, generator=seeded(step))
        if optimizer:
            optimizer.zero_grad()
            # weakly committed, or codes and projections shrink together toward nothing where no length holds them
            parts = [out.losses.get(name, torch.zeros(K)).sum() for name in ("residual", "codebook")]
            (F.mse_loss(out.latents, z) + sum(parts) + 0.02 * out.losses["commitment"].sum()).backward()
            optimizer.step()
    energy = quantizer.eval()(fresh).stats["residual_energy"]
    assert energy[0] < 0.6
    assert (energy.diff() < 0).all(), energy


@pytest.mark.parametrize("training", [True, False])
def test_losses_of_a_process_add_up_to_those_of_the_whole_batch(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with an item each, one of which drops codebooks; also if the codebooks are frozen."""
    quantizer, numbers, N = chain("unprojected", "gradient").train(training), torch.tensor([1, 3]), 20
    for level in levels_of(quantizer):
        level.table.revive_below = 0.0

    def gradient(z: Tensor, num_codebooks: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        quantizer(z, num_codebooks=num_codebooks, generator=seeded()).losses["commitment"].sum().backward()
        assert z.grad is not None
        return z.grad

    z = latents(2, N)
    whole = gradient(z, numbers)
    monkeypatch.setattr("vqaudio.ranks.count", lambda: 2)
    for mine in (0, 1):
        others = [
            torch.tensor([float(N * (numbers[1 - mine] > level)) for level in range(K)]),
            torch.tensor([float(N)]),
        ]

        def with_the_other(tensors: list[Tensor], others: list[Tensor] = others) -> None:
            for tensor, other in zip(tensors, others, strict=True):
                tensor += other

        monkeypatch.setattr("vqaudio.ranks.sum_over_ranks", with_the_other)
        torch.testing.assert_close(0.5 * gradient(z[mine : mine + 1], numbers[mine : mine + 1])[0], whole[mine])
