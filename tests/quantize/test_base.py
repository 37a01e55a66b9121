"""What every quantiser promises: the laws of the protocol, over all of them."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from vqaudio.quantize import FSQConfig, Quantizer, ResidualVQConfig, VQConfig, rotated, straight_through

D = 6
CONFIGS: dict[str, VQConfig | ResidualVQConfig | FSQConfig] = {
    f"{name}-{update}": config(update=update)
    for update in ("ema", "gradient")
    for name, config in {
        "vq": lambda update: VQConfig(dim=D, codebook_size=12, update=update),
        "residual-unprojected": lambda update: ResidualVQConfig(
            dim=D, num_codebooks=3, codebook_size=12, codebook_dim=0, update=update
        ),
        "residual-projected": lambda update: ResidualVQConfig(
            dim=D, num_codebooks=3, codebook_size=12, codebook_dim=3, update=update
        ),
        "residual-normalised": lambda update: ResidualVQConfig(
            dim=D, num_codebooks=3, codebook_size=12, codebook_dim=3, normalize=True, update=update
        ),
    }.items()
}
CONFIGS["vq-simvq"] = VQConfig(dim=D, codebook_size=12, update="simvq")
CONFIGS["residual-simvq-rotation"] = ResidualVQConfig(
    dim=D, num_codebooks=3, codebook_size=12, codebook_dim=3, update="simvq", through="rotation"
)
CONFIGS["residual-unprojected-rotation"] = ResidualVQConfig(
    dim=D, num_codebooks=3, codebook_size=12, codebook_dim=0, through="rotation"
)
CONFIGS["fsq-single"] = FSQConfig(dim=D, levels=(4, 3))
CONFIGS["fsq-residual"] = FSQConfig(dim=D, num_codebooks=3, levels=(4, 3, 2))
every_kind = pytest.mark.parametrize("kind", CONFIGS)
residual_kinds = pytest.mark.parametrize("kind", [kind for kind, config in CONFIGS.items() if config.kind != "vq"])
learning_kinds = pytest.mark.parametrize("kind", [kind for kind in CONFIGS if not kind.startswith("fsq")])


few_examples = settings(max_examples=6)  # there are ten kinds


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(batch: int, frames: int, seed: int = 0) -> Tensor:
    """(B, D, N) with correlated, offset dimensions, as an encoder's."""
    mix = torch.randn(D, D, generator=seeded(99))
    return torch.einsum("de,ben->bdn", mix, torch.randn(batch, D, frames, generator=seeded(seed))) + 0.5


def fitted(kind: str) -> nn.Module:
    """A quantiser after k-means, so that its codes differ from frame to frame; in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        quantizer = CONFIGS[kind].build()
    quantizer.fit(latents(1, 400, seed=5)[0].t(), generator=seeded())
    return quantizer.eval()


FITTED = {kind: fitted(kind) for kind in CONFIGS}


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Nothing of `module`, nor torch's random state, differs at the end."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    random_state, training = torch.random.get_rng_state(), module.training
    yield
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} has changed"
    assert torch.equal(torch.random.get_rng_state(), random_state), "a random number was drawn"
    assert module.training == training


@every_kind
def test_tells_its_sizes(kind: str) -> None:
    quantizer: Quantizer = FITTED[kind]  # type: ignore[assignment]
    z = latents(2, 30)
    codes = quantizer.encode(z)
    assert codes.shape == (2, len(quantizer.codebook_sizes), 30) and codes.dtype == torch.int64
    assert quantizer.dim == D and quantizer.decode(codes).shape == z.shape
    for level, size in enumerate(quantizer.codebook_sizes):
        assert codes[:, level].min() >= 0 and codes[:, level].max() < size
        assert len(codes[:, level].unique()) > 3, "codes that hardly change would prove nothing"
        assert quantizer.codebook(level).shape == (size, D)


@every_kind
@few_examples
@given(seed=st.integers(0, 1000), keep=st.integers(1, 3))
def test_decode_is_the_sum_of_the_codebooks_rows_of_any_prefix(kind: str, seed: int, keep: int) -> None:
    quantizer = FITTED[kind]
    codes = quantizer.encode(latents(2, 9, seed))[:, :keep]
    rows = [quantizer.codebook(level)[codes[:, level]] for level in range(codes.shape[1])]  # (B, N, D) each
    expected = torch.stack(rows).sum(dim=0).transpose(1, 2)
    torch.testing.assert_close(quantizer.decode(codes), expected, atol=1e-6, rtol=1e-6)


@every_kind
@few_examples
@given(seed=st.integers(0, 1000))
def test_fewer_codebooks_are_the_first_rows(kind: str, seed: int) -> None:
    quantizer, z = FITTED[kind], latents(2, 9, seed)
    codes = quantizer.encode(z)
    for keep in range(1, codes.shape[1] + 1):
        assert torch.equal(quantizer.encode(z, num_codebooks=keep), codes[:, :keep])


@every_kind
def test_training_form_has_the_codes_of_encode_and_the_latents_of_decode(kind: str) -> None:
    quantizer, z = FITTED[kind], latents(2, 20)
    for keep in range(1, len(quantizer.codebook_sizes) + 1):
        out = quantizer(z, num_codebooks=keep)
        codes = quantizer.encode(z)
        assert torch.equal(out.codes, codes)
        torch.testing.assert_close(out.latents, quantizer.decode(codes[:, :keep]), atol=1e-5, rtol=1e-5)
        assert out.stats["residual_energy"].shape == out.stats["revived"].shape == (len(quantizer.codebook_sizes),)


@residual_kinds
def test_items_with_their_own_number_of_codebooks_are_as_if_alone(kind: str) -> None:
    quantizer, z = FITTED[kind], latents(4, 7)
    most = len(quantizer.codebook_sizes)
    numbers = [min(number, most) for number in (2, 1, 3, 2)]
    together = quantizer(z, num_codebooks=torch.tensor(numbers))
    for item, number in enumerate(numbers):
        alone = quantizer(z[item : item + 1], num_codebooks=number)
        torch.testing.assert_close(together.latents[item], alone.latents[0], atol=1e-6, rtol=1e-6)


@residual_kinds
def test_losses_of_a_level_are_those_of_the_items_that_use_it(kind: str) -> None:
    quantizer, z = FITTED[kind], latents(3, 7)
    most = len(quantizer.codebook_sizes)
    numbers = torch.tensor([1, 2, 3]).clamp(max=most)
    together = quantizer(z, num_codebooks=numbers)
    for level in range(most):
        users = quantizer(z[numbers > level])
        for name, values in together.losses.items():
            torch.testing.assert_close(values[level], users.losses[name][level], msg=f"{name} of level {level}")


@every_kind
@pytest.mark.parametrize("training", [False, True])
def test_encode_and_decode_leave_no_trace_and_ignore_the_mode(kind: str, training: bool) -> None:
    quantizer, z = copy.deepcopy(FITTED[kind]).train(training), latents(2, 20)
    with untouched(quantizer):
        codes = quantizer.encode(z)
        decoded = quantizer.decode(codes)
        for level in range(codes.shape[1]):
            quantizer.codebook(level)
    assert torch.equal(codes, FITTED[kind].encode(z))
    assert torch.equal(decoded, FITTED[kind].decode(codes))


@every_kind
def test_frozen_quantiser_does_not_move(kind: str) -> None:
    quantizer = copy.deepcopy(FITTED[kind]).eval()
    with untouched(quantizer):
        for seed in range(3):
            out = quantizer(100.0 * latents(2, 20, seed), generator=seeded())
            assert out.revived == () and out.stats["revived"].sum() == 0


@learning_kinds
def test_training_quantiser_learns(kind: str) -> None:
    """Or the tests that nothing moves would prove nothing."""
    quantizer = copy.deepcopy(FITTED[kind]).train()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer(latents(2, 20), generator=seeded())
    moved = [key for key, value in quantizer.state_dict().items() if not torch.equal(value, before[key])]
    assert any(key.endswith("ema_counts") for key in moved)
    assert any(key.endswith("vectors") for key in moved) == (CONFIGS[kind].update == "ema")  # type: ignore[union-attr]


@every_kind
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_batch_that_is_not_finite_changes_nothing(kind: str, bad: float) -> None:
    quantizer, z = copy.deepcopy(FITTED[kind]).train(), latents(3, 20)
    z[0, 2, 4] = bad
    numbers = torch.tensor([1, len(quantizer.codebook_sizes), 1])  # the later levels do not see the bad item
    with untouched(quantizer):
        out = quantizer(z, num_codebooks=numbers, generator=seeded())
    assert out.revived == ()


@every_kind
def test_same_generator_same_learning(kind: str) -> None:
    states = []
    for _ in range(2):
        quantizer = copy.deepcopy(FITTED[kind]).train()
        random_state = torch.random.get_rng_state()
        generator = seeded(4)
        for seed in range(3):
            quantizer(latents(1, 5, seed), generator=generator)
        assert torch.equal(torch.random.get_rng_state(), random_state)
        states.append(quantizer.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@every_kind
def test_no_frames_give_no_codes(kind: str) -> None:
    quantizer = FITTED[kind]
    codes = quantizer.encode(torch.zeros(2, D, 0))
    assert codes.shape == (2, len(quantizer.codebook_sizes), 0) and codes.dtype == torch.int64
    assert quantizer.decode(codes).shape == (2, D, 0)


def rotation(z: Tensor, q: Tensor) -> Tensor:
    """The matrix that turns the plane of z and q so that z comes to lie along q, by its angle's cosine and sine."""
    u = z / z.norm()
    cosine = float(u @ q / q.norm())
    across = q / q.norm() - cosine * u
    sine = float(across.norm())
    v = across / sine
    plane, turn = torch.outer(u, u) + torch.outer(v, v), torch.outer(v, u) - torch.outer(u, v)
    return torch.eye(len(z), dtype=z.dtype) + (cosine - 1) * plane + sine * turn


@given(seed=st.integers(0, 1000), dim=st.integers(2, 8))
def test_rotation_trick_turns_the_gradient_as_the_matrix_does(seed: int, dim: int) -> None:
    z, q, upstream = torch.randn(3, 5, dim, generator=seeded(seed), dtype=torch.float64)
    z.requires_grad_()
    out = rotated(q, z)
    out.backward(upstream)
    torch.testing.assert_close(out, q)
    assert z.grad is not None
    for row in range(5):
        a, b = z[row].detach(), q[row]
        expected = b.norm() / a.norm() * rotation(a, b).t() @ upstream[row]
        torch.testing.assert_close(z.grad[row], expected)


def test_rotation_trick_without_a_direction_is_straight_through() -> None:
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    q = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-3.0, -4.0], [6.0, 8.0]])
    out = rotated(q, z)
    assert torch.equal(out, q)
    upstream = torch.tensor([[1.0, -2.0]]).repeat(4, 1)
    out.backward(upstream)
    assert z.grad is not None
    torch.testing.assert_close(z.grad, upstream * torch.tensor([[1.0], [1.0], [1.0], [2.0]]))  # the last: twice as long


def test_straight_through_is_the_value_of_one_and_the_gradient_of_the_other() -> None:
    quantized = torch.tensor([1.0, -2.0], requires_grad=True)
    z = torch.tensor([0.75, -1.5], requires_grad=True)
    out = straight_through(quantized, z)
    assert out.tolist() == [1.0, -2.0]
    out.backward(torch.tensor([3.0, 5.0]))
    assert z.grad is not None and z.grad.tolist() == [3.0, 5.0]
    assert quantized.grad is None


# ---- errors


@every_kind
@few_examples
@given(data=st.data())
def test_wrong_code_is_named_with_its_place(kind: str, data: st.DataObject) -> None:
    quantizer = FITTED[kind]
    sizes = quantizer.codebook_sizes
    codes = quantizer.encode(latents(3, 5))
    item, level, frame = (data.draw(st.integers(0, most)) for most in (2, len(sizes) - 1, 4))
    wrong = data.draw(st.sampled_from([-1, sizes[level], 2**40]))
    codes[item, level, frame] = wrong
    message = f"code {wrong} at item {item}, codebook {level}, frame {frame} is outside 0 … {sizes[level] - 1}"
    with pytest.raises(ValueError, match=message):
        quantizer.decode(codes)


@every_kind
def test_codes_of_a_wrong_shape_or_type_are_refused(kind: str) -> None:
    quantizer = FITTED[kind]
    K = len(quantizer.codebook_sizes)
    for shape in [(2, K + 1, 5), (2, 0, 5), (K, 5)]:
        with pytest.raises(ValueError, match=rf"codes have shape \({shape[0]}, .* with 1 to {K} codebooks"):
            quantizer.decode(torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"codes have dtype torch\.float32; expected torch\.int64"):
        quantizer.decode(torch.zeros(2, K, 5))


@every_kind
def test_latents_of_a_wrong_shape_are_refused(kind: str) -> None:
    quantizer = FITTED[kind]
    for function in (quantizer, quantizer.encode):
        with pytest.raises(ValueError, match=rf"latents have shape \(2, 5, 9\); expected \(batch, {D}, frames\)"):
            function(torch.zeros(2, 5, 9))


@every_kind
def test_number_of_codebooks_out_of_range_is_refused(kind: str) -> None:
    quantizer, z = FITTED[kind], latents(2, 5)
    K = len(quantizer.codebook_sizes)
    for number in (0, K + 1):
        message = f"num_codebooks is {number}; this quantiser has codebooks 1 to {K}"
        with pytest.raises(ValueError, match=message):
            quantizer.encode(z, num_codebooks=number)
        with pytest.raises(ValueError, match=message):
            quantizer(z, num_codebooks=number)
        with pytest.raises(ValueError, match=message):
            quantizer(z, num_codebooks=torch.tensor([1, number]))
    with pytest.raises(ValueError, match=r"num_codebooks has shape \(3,\); one number per item is \(2,\)"):
        quantizer(z, num_codebooks=torch.ones(3, dtype=torch.int64))
    for index in (-1, K):
        with pytest.raises(ValueError, match=f"no codebook {index}; this quantiser has 0 to {K - 1}"):
            quantizer.codebook(index)


@every_kind
def test_nothing_to_start_from_is_refused(kind: str) -> None:
    quantizer = copy.deepcopy(FITTED[kind])
    with untouched(quantizer):
        with pytest.raises(ValueError, match=rf"start from have shape \(0, {D}\)"):
            quantizer.fit(torch.zeros(0, D), generator=seeded())
        with pytest.raises(ValueError, match="start from hold NaN"):
            quantizer.fit(torch.full((9, D), torch.nan), generator=seeded())


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (VQConfig, {"codebook_size": 0}, "codebook_size 0 must be positive"),
        (ResidualVQConfig, {"num_codebooks": 0}, "num_codebooks 0 .* must be positive"),
        (VQConfig, {"ema_decay": 1.0}, r"ema_decay 1\.0 and revive_below 0\.1 must be .* less than 1"),
        (ResidualVQConfig, {"revive_below": 1.5}, r"revive_below 1\.5 must be .* less than 1"),
        (ResidualVQConfig, {"dim": 4, "codebook_dim": 5}, "codebook_dim is 5; it must lie in 0 … dim, 4"),
        (FSQConfig, {"levels": ()}, r"levels are \(\); each dimension needs 2 to 1000 values"),
        (FSQConfig, {"levels": (8, 1)}, r"levels are \(8, 1\); each"),
        (FSQConfig, {"levels": (1001,)}, r"levels are \(1001,\); each"),
        (FSQConfig, {"dim": 1, "levels": (3, 3)}, r"levels are \(3, 3\), more dimensions than dim, 1"),
        (FSQConfig, {"num_codebooks": 0}, "num_codebooks 0 must be positive"),
    ],
)
def test_impossible_settings_are_refused(config: type, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)
