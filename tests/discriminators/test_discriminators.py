"""Discriminators: what they look at, against the definitions of their papers."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio.discriminators import Discriminators, PeriodDiscriminatorConfig, STFTDiscriminatorConfig

SMALL_PERIOD = PeriodDiscriminatorConfig(periods=(3,), channels=(4, 6))
SMALL_STFT = STFTDiscriminatorConfig(windows=(64,), channels=4, frequency_strides=(2, 2), dilations=(1, 2))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_period_discriminator_is_the_papers_image_of_period_columns() -> None:
    """HiFi-GAN folds the signal into (T / p, p) and convolves with (kernel, 1); the same weights give the same maps."""
    (discriminator,) = SMALL_PERIOD.build()
    audio = noise(2, 1, 100)
    features = discriminator(audio)
    x = F.pad(audio, (0, 2)).view(2, 1, 34, 3)
    for layer, feature, stride in zip(discriminator.layers, features, (3, 1), strict=False):  # type: ignore[arg-type]
        x = F.leaky_relu(F.conv2d(x, layer.weight[..., None], layer.bias, (stride, 1), (2, 0)), 0.1)
        B, C, length, p = x.shape
        torch.testing.assert_close(feature.view(B, p, C, length).permute(0, 2, 3, 1), x)
    assert features[-1].shape[1] == 1


def test_what_repeats_with_the_period_looks_the_same_from_every_place() -> None:
    (discriminator,) = SMALL_PERIOD.build()
    audio = noise(1, 1, 3).repeat(1, 1, 40)
    columns = audio.view(1, -1, 3).transpose(1, 2).reshape(3, 1, -1)
    assert all(len(column.unique()) == 1 for column in columns)
    for map_ in discriminator(audio)[0]:
        assert map_[:, 2:-2].std(dim=-1).max() < 1e-6


def test_a_spectrum_with_power_one_is_torchs() -> None:
    (discriminator,) = STFTDiscriminatorConfig(windows=(64,), channels=4, power=1.0).build()
    audio = noise(2, 1, 640)
    expected = torch.stft(audio[:, 0], 64, 16, window=torch.hann_window(64), normalized=True, return_complex=True)
    found = discriminator.spectrum(audio)
    torch.testing.assert_close(torch.complex(found[:, 0], found[:, 1]).transpose(1, 2), expected)


def test_the_power_bends_magnitudes_and_leaves_phases() -> None:
    (plain,) = STFTDiscriminatorConfig(windows=(64,), channels=4, power=1.0).build()
    (bent,) = STFTDiscriminatorConfig(windows=(64,), channels=4, power=0.5).build()
    audio = noise(1, 1, 640)
    x, y = (torch.complex(*each.spectrum(audio).unbind(1)) for each in (plain, bent))
    loud = x.abs() > 0.05
    torch.testing.assert_close(y.abs()[loud], x.abs()[loud].sqrt(), rtol=1e-3, atol=0)
    torch.testing.assert_close(y[loud] / y.abs()[loud], x[loud] / x.abs()[loud])


def test_silence_has_finite_gradients() -> None:
    game = Discriminators([*SMALL_PERIOD.build(), *SMALL_STFT.build()])
    audio = torch.zeros(1, 1, 640, requires_grad=True)
    torch.stack([features[-1].sum() for features in game(audio)]).sum().backward()
    assert audio.grad is not None and audio.grad.isfinite().all()


def test_all_lengths_are_looked_at_and_ends_reach_the_verdict() -> None:
    game = Discriminators([*PeriodDiscriminatorConfig().build(), *STFTDiscriminatorConfig(windows=(256,)).build()])
    for length in (800, 801, 1600):
        audio = noise(1, 1, length).requires_grad_()
        for features in game(audio):
            (gradient,) = torch.autograd.grad(features[-1].square().sum(), audio, retain_graph=True)
            assert gradient[..., :16].abs().max() > 0 and gradient[..., -16:].abs().max() > 0


def test_features_keep_items_apart() -> None:
    game = Discriminators([*SMALL_PERIOD.build(), *SMALL_STFT.build()])
    audio = noise(3, 1, 500)
    for together, alone in zip(game(audio), game(audio[1:2]), strict=True):
        for whole, one in zip(together, alone, strict=True):
            size = len(whole) // 3
            torch.testing.assert_close(whole[size : 2 * size], one, rtol=1e-4, atol=1e-5)


def test_weights_are_normed_after_their_start() -> None:
    (discriminator,) = SMALL_PERIOD.build()
    names = [name for name, _ in discriminator.named_parameters()]
    assert any("parametrizations.weight.original0" in name for name in names)
    layer = discriminator.layers[0]  # type: ignore[index]
    assert layer.weight.std() > 0.1  # PyTorch's own start for 5 taps is uniform in ±0.45


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Discriminators([]), "at least one discriminator"),
        (lambda: PeriodDiscriminatorConfig(periods=(0,)), "must be positive"),
        (lambda: PeriodDiscriminatorConfig(kernel_size=4), "must be odd"),
        (lambda: STFTDiscriminatorConfig(dilations=(1,)), "one entry for each layer"),
        (lambda: STFTDiscriminatorConfig(power=0.0), "must lie in 0 … 1"),
        (lambda: STFTDiscriminatorConfig(kernel=(3, 4)), "odd sides"),
    ],
)
def test_wrong_settings_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
