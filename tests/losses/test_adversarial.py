"""The game's losses, against their formulas worked by hand."""

import pytest
import torch

from vqaudio.losses import adversarial_loss, discriminator_loss, feature_matching

# two discriminators: the first with one feature map, the second with two; the last of each is its verdict
REAL = [[torch.tensor([2.0, -2.0]), torch.tensor([0.5, 3.0])], [torch.ones(2), torch.ones(4), torch.tensor([-1.0])]]
FAKE = [[torch.tensor([1.0, -1.0]), torch.tensor([-0.5, 1.0])], [torch.ones(2), torch.zeros(4), torch.tensor([-3.0])]]


def test_hinge() -> None:
    # first: mean(0.5, 0) + mean(0.5, 2); second: 2 + 0
    assert discriminator_loss(REAL, FAKE, game="hinge") == pytest.approx((0.25 + 1.25 + 2.0) / 2)
    assert adversarial_loss(FAKE, game="hinge") == pytest.approx((-0.25 + 3.0) / 2)


def test_least_squares() -> None:
    first = (0.25 + 4.0) / 2 + (0.25 + 1.0) / 2
    assert discriminator_loss(REAL, FAKE, game="least_squares") == pytest.approx((first + 4.0 + 9.0) / 2)
    assert adversarial_loss(FAKE, game="least_squares") == pytest.approx(((2.25 + 0.0) / 2 + 16.0) / 2)


def test_feature_matching_is_relative_and_leaves_verdicts_out() -> None:
    # |1 - 2| over 2 = 0.5; then 0 and 1
    assert feature_matching(FAKE, REAL) == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert feature_matching(REAL, REAL) == 0.0


def test_feature_matching_moves_the_estimate_only() -> None:
    real = [[torch.ones(3, requires_grad=True), torch.zeros(1)]]
    fake = [[torch.zeros(3, requires_grad=True), torch.zeros(1)]]
    feature_matching(fake, real).backward()
    assert real[0][0].grad is None
    assert torch.equal(fake[0][0].grad, torch.full((3,), -1.0 / 3.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("game", "blind"), [("hinge", 2.0), ("least_squares", 0.5)])
def test_a_blind_discriminator_can_do_no_better_than_this(game: str, blind: float) -> None:
    """One verdict for all: whatever it is, the loss is at least the one stated."""
    values = [
        float(discriminator_loss([[v]], [[v]], game=game))  # type: ignore[arg-type]
        for v in torch.linspace(-2, 2, 41)
    ]
    assert min(values) == pytest.approx(blind, abs=1e-6)
