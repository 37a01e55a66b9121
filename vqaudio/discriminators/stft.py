"""Multi-scale discriminators on complex short-time spectra (EnCodec, arXiv 2210.13438, sec. 3.4 and fig. 2).

Real and imaginary part are the two channels of an image of time and frequency, one image for each window. Where we
differ: the magnitude is raised to a power (phases stay), because in raw spectra the high frequencies of speech are
thousands of times fainter than its first harmonics and a small discriminator never looks there; and the first
convolution strides by 4 in frequency, which makes it four times cheaper.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.discriminators.base import Features, normed

# |X|² below which the power turns linear: -60 dB, with bounded slopes at silence.
_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class STFTDiscriminatorConfig:
    windows: tuple[int, ...] = (1024, 512, 256)  # samples, one discriminator each; hop a quarter; () for none
    channels: int = 16  # EnCodec: 32
    kernel: tuple[int, int] = (3, 9)  # time, frequency
    frequency_strides: tuple[int, ...] = (4, 2, 2, 2)  # of the layers before the last; EnCodec: 1, 2, 2, 2
    dilations: tuple[int, ...] = (1, 1, 2, 4)  # the same layers, in time
    power: float = 0.5  # of the magnitude; 1.0 leaves spectra as they are

    def __post_init__(self) -> None:
        if len(self.frequency_strides) != len(self.dilations):
            raise ValueError(
                f"frequency_strides {self.frequency_strides} and dilations {self.dilations} need one entry for each "
                "layer"
            )
        if min((1, *self.windows, *self.frequency_strides, *self.dilations, self.channels)) < 1:
            raise ValueError("windows, channels, frequency_strides and dilations must be positive")
        if not 0 < self.power <= 1:
            raise ValueError(f"power is {self.power}; it must lie in 0 … 1, without 0")
        if any(size % 2 == 0 for size in self.kernel):
            raise ValueError(f"kernel {self.kernel} must have odd sides")

    def build(self) -> list[nn.Module]:
        return [STFTDiscriminator(self, window) for window in self.windows]


class STFTDiscriminator(nn.Module):
    """(B, 1, T) -> features (B, C, frames, ·); the last has one channel."""

    def __init__(self, config: STFTDiscriminatorConfig, window: int) -> None:
        super().__init__()
        self.power = config.power
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        high, wide = config.kernel
        layers = []
        width = 2
        for stride, dilation in zip(config.frequency_strides, config.dilations, strict=True):
            padding = (high // 2 * dilation, wide // 2)
            layers.append(nn.Conv2d(width, config.channels, config.kernel, (1, stride), padding, (dilation, 1)))
            width = config.channels
        layers.append(nn.Conv2d(width, width, 3, 1, 1))
        self.layers = nn.ModuleList(normed(layer) for layer in layers)
        self.verdict = normed(nn.Conv2d(width, 1, 3, 1, 1))

    def forward(self, audio: Tensor) -> Features:
        x = self.spectrum(audio)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.verdict(x)]

    def spectrum(self, audio: Tensor) -> Tensor:
        """(B, 1, T) -> (B, 2, frames, bins): real and imaginary part, magnitudes raised to `power`."""
        size = len(self.window)
        with torch.autocast(audio.device.type, enabled=False):
            X = torch.stft(
                audio[:, 0].float(), size, size // 4, window=self.window, normalized=True, return_complex=True
            )
            x = torch.stack([X.real, X.imag], dim=1).transpose(2, 3)
            energy = x.square().sum(dim=1, keepdim=True)
            return x * (energy + _FLOOR).pow((self.power - 1.0) / 2.0)
