"""The folded search: the codes of `ResidualQuantizer.encode`, near-ties aside."""

import copy

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from tests.tiny import KINDS, tiny_codec
from vqaudio.quantize import NEAR_TIE, FoldedQuantizer, ResidualQuantizer, ResidualVQConfig, first_gaps
from vqaudio.quantize.vq import Update

D = 16


def fitted(
    *, normalize: bool = False, update: Update = "ema", num_codebooks: int = 4, codebook_size: int = 32
) -> ResidualQuantizer:
    config = ResidualVQConfig(
        dim=D,
        num_codebooks=num_codebooks,
        codebook_size=codebook_size,
        codebook_dim=4,
        normalize=normalize,
        update=update,
    )
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        quantizer = config.build().eval().requires_grad_(False)
    quantizer.fit(torch.randn(2000, D, generator=generator), generator=generator)
    return quantizer


def latents(seed: int, frames: int = 500) -> Tensor:
    return torch.randn(frames, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("normalize", "update"), [(False, "ema"), (True, "ema"), (False, "simvq"), (True, "simvq")])
@given(seed=st.integers(0, 1000), num_codebooks=st.integers(1, 4))
def test_codes_are_those_of_the_search_in_full(normalize: bool, update: Update, seed: int, num_codebooks: int) -> None:
    quantizer = fitted(normalize=normalize, update=update)
    z = latents(seed)
    ours = FoldedQuantizer(quantizer).encode(z, num_codebooks).t()  # (K, N)
    full = quantizer.encode(z.t()[None], num_codebooks=num_codebooks)[0]
    assert ours.shape == full.shape
    gaps = first_gaps(copy.deepcopy(quantizer).double(), z.t().double(), ours, full)
    assert (gaps < NEAR_TIE).all()
    assert len(gaps) < 5, "near-ties are rare"


@given(seed=st.integers(0, 1000), num_codebooks=st.integers(1, 4))
def test_decoding_adds_the_same_vectors(seed: int, num_codebooks: int) -> None:
    quantizer = fitted()
    codes = torch.randint(0, 32, (num_codebooks, 50), generator=torch.Generator().manual_seed(seed))
    ours = FoldedQuantizer(quantizer).decode(codes.t())
    torch.testing.assert_close(ours.t(), quantizer.decode(codes[None])[0], atol=1e-5, rtol=1e-5)


def test_codebooks_of_different_sizes_do_not_meet() -> None:
    quantizer = fitted(num_codebooks=2)
    folded = FoldedQuantizer(quantizer)
    codes = torch.tensor([[31, 0], [0, 31]])
    expected = quantizer.codebook(0)[codes[:, 0]] + quantizer.codebook(1)[codes[:, 1]]
    torch.testing.assert_close(folded.decode(codes), expected)


@pytest.mark.parametrize("name", ["project_in.weight", "project_in.bias", "project_out.weight", "table.vectors"])
def test_any_change_of_the_weights_is_noticed(name: str) -> None:
    quantizer = fitted()
    folded = FoldedQuantizer(quantizer)
    assert folded.holds(quantizer)
    tensor = quantizer.get_submodule("levels.2").state_dict()[name]
    tensor.data.view(-1)[1] += 1e-3  # as an optimiser's step, or a hand, may do it
    assert not folded.holds(quantizer)


def test_a_change_of_the_map_of_simvq_is_noticed() -> None:
    quantizer = fitted(update="simvq")
    folded = FoldedQuantizer(quantizer)
    assert folded.holds(quantizer)
    quantizer.get_parameter("levels.1.table.transform.weight").data[0, 0] += 1e-3
    assert not folded.holds(quantizer)


def test_training_statistics_are_no_change() -> None:
    quantizer = fitted()
    folded = FoldedQuantizer(quantizer)
    quantizer.get_buffer("levels.0.table.ema_counts").add_(1.0)
    assert folded.holds(quantizer)


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_folded(kind: str) -> None:
    assert FoldedQuantizer.can_fold(tiny_codec(kind).quantizer) == (kind in ("rvq-projected", "istft-simvq", "hybrid"))
