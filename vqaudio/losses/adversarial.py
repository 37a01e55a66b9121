"""The losses of the game between a codec and its discriminators, from their feature maps.

`real` and `fake` hold, for each discriminator, the features of its layers; the last is its verdict. Every loss is a
mean over discriminators, so that their number does not change its scale.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Game = Literal["hinge", "least_squares"]


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]], *, game: Game) -> Tensor:
    """What discriminators lower. Hinge: max(0, 1 - D(x)) + max(0, 1 + D(x̂)) (Lim and Ye, arXiv 1705.02894);
    least squares: (1 - D(x))² + D(x̂)² (Mao et al., arXiv 1611.04076). A blind one stands at 2 (hinge) or 0.5."""
    losses = []
    for (*_, on_real), (*_, on_fake) in zip(real, fake, strict=True):
        on_real, on_fake = on_real.float(), on_fake.float()
        if game == "hinge":
            losses.append(F.relu(1.0 - on_real).mean() + F.relu(1.0 + on_fake).mean())
        else:
            losses.append((1.0 - on_real).square().mean() + on_fake.square().mean())
    return torch.stack(losses).mean()


def adversarial_loss(fake: list[list[Tensor]], *, game: Game) -> Tensor:
    """What the codec lowers. Hinge: -D(x̂); least squares: (1 - D(x̂))²."""
    verdicts = [features[-1].float() for features in fake]
    losses = [-verdict.mean() if game == "hinge" else (1.0 - verdict).square().mean() for verdict in verdicts]
    return torch.stack(losses).mean()


def feature_matching(fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """Mean over layers of |D_l(x̂) - D_l(x)| relative to the mean of |D_l(x)| (EnCodec, arXiv 2210.13438, eq. 2); the
    verdicts do not count. No gradient goes to `real`."""
    distances = []
    for fake_features, real_features in zip(fake, real, strict=True):
        for estimate, reference in zip(fake_features[:-1], real_features[:-1], strict=True):
            reference = reference.detach().float()
            distances.append((estimate.float() - reference).abs().mean() / reference.abs().mean().clamp(min=1e-4))
    return torch.stack(distances).mean()
