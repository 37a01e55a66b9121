"""The near-tie rule: gaps worked out by hand, rounding let through, wrong codes not."""

import copy

import pytest
import torch

from tests.tiny import HOP, KINDS, noise, tiny_codec
from vqaudio.quantize import NEAR_TIE, FSQConfig, VQConfig, first_gaps


def test_gap_of_one_codebook_by_hand() -> None:
    quantizer = VQConfig(dim=2, codebook_size=3).build().double()
    quantizer.table.vectors.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    latents = torch.tensor([[0.5, 0.25], [0.0, 1.0]], dtype=torch.float64).t()  # two frames, as columns
    a, b = torch.tensor([[0, 2]]), torch.tensor([[1, 0]])
    # frame 0: scores 0 and 0.5 - 0.5; frame 1: 2 - 2 and 0
    assert first_gaps(quantizer, latents, a, b).tolist() == [0.0, 0.0]
    latents[0, 0] = 0.75  # now code 1 is better by 0.25
    assert first_gaps(quantizer, latents, a, b).tolist() == [0.25, 0.0]
    assert first_gaps(quantizer, latents, a, torch.tensor([[1, 2]])).tolist() == [0.25], "equal frames do not count"


def test_gap_of_a_grid_by_hand() -> None:
    quantizer = FSQConfig(dim=1, levels=(3,)).build().double()
    level = quantizer.chain[0]
    level.project_in.weight.data.fill_(1.0)  # type: ignore[attr-defined]
    level.project_in.bias.data.zero_()  # type: ignore[attr-defined]
    x = torch.atanh(torch.tensor([[0.5 / 1.001]], dtype=torch.float64))  # bounded to half a step, between 0 and 1
    assert first_gaps(quantizer, x, torch.tensor([[1]]), torch.tensor([[2]])).tolist() == pytest.approx([0.0], abs=1e-6)
    # from -1 the distance is 1.5 steps, from 0 it is 0.5: (1.5² - 0.5²) / 2
    assert first_gaps(quantizer, x, torch.tensor([[1]]), torch.tensor([[0]])).tolist() == pytest.approx([1.0], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_first_level_that_differs_counts(kind: str) -> None:
    codec = copy.deepcopy(tiny_codec(kind)).double()
    audio = noise(1, 40 * HOP)
    codes = tiny_codec(kind).encode(audio[None])[0]
    with torch.no_grad():
        latents = codec.encode_latents(audio.double()[None])[0]
    assert len(first_gaps(codec.quantizer, latents, codes, codes)) == 0
    other = codes.clone()
    other[:, 7] = (other[:, 7] + 1) % torch.tensor(codec.codebook_sizes)  # all levels of one frame
    (gap,) = first_gaps(codec.quantizer, latents, codes, other).tolist()
    level = codec.quantizer.chain[0]
    frame = latents[:, 7:8].t()
    expected = (level.scores(frame, codes[:1, 7]) - level.scores(frame, other[:1, 7])).detach()
    assert gap == pytest.approx(float(expected)) and gap > NEAR_TIE


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_chosen_has_the_largest_score(kind: str) -> None:
    codec = copy.deepcopy(tiny_codec(kind)).double()
    audio = noise(1, 20 * HOP)
    chosen = tiny_codec(kind).encode(audio[None])[0]
    with torch.no_grad():
        residual = codec.encode_latents(audio.double()[None])[0].t()
        for level, codes, size in zip(codec.quantizer.chain, chosen, codec.codebook_sizes, strict=True):
            all_scores = torch.stack([level.scores(residual, torch.full_like(codes, code)) for code in range(size)])
            own = level.scores(residual, codes)
            assert (all_scores <= own + NEAR_TIE).all()
            residual = residual - level.embed(codes)
