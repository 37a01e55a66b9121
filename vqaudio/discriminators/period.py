"""Multi-period discriminators (HiFi-GAN, arXiv 2010.05646, sec. 2.3): each sees every p-th sample, from p places.

    period 3      a b c d e f g h i   ->   a d g | b e h | c f i        three signals, one after the other

so that what repeats with a period, as voiced speech does, stands side by side. HiFi-GAN lays the samples out as an
image and convolves along one of its sides; that is a convolution in one dimension, as which it is written here.
"""

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.discriminators.base import Features, normed


@dataclass(frozen=True, kw_only=True)
class PeriodDiscriminatorConfig:
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)  # one discriminator each; () for none
    channels: tuple[int, ...] = (16, 32, 64, 128)  # HiFi-GAN's 32, 128, 512, 1024, 1024 at a fortieth of the cost
    kernel_size: int = 5
    stride: int = 3  # of every convolution but the last

    def __post_init__(self) -> None:
        if min((1, *self.periods, *self.channels)) < 1 or not self.channels:
            raise ValueError(
                f"periods {self.periods} and channels {self.channels} must be positive, channels not empty"
            )
        if min(self.kernel_size, self.stride) < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} must be odd and stride {self.stride} positive")

    def build(self) -> list[nn.Module]:
        return [PeriodDiscriminator(self, period) for period in self.periods]


class PeriodDiscriminator(nn.Module):
    """(B, 1, T) -> features (B · period, C, ·); the last has one channel."""

    def __init__(self, config: PeriodDiscriminatorConfig, period: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, *config.channels)
        strides = (config.stride,) * (len(config.channels) - 1) + (1,)
        self.layers = nn.ModuleList(
            normed(nn.Conv1d(before, after, config.kernel_size, stride, config.kernel_size // 2))
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.verdict = normed(nn.Conv1d(widths[-1], 1, 3, 1, 1))

    def forward(self, audio: Tensor) -> Features:
        x = F.pad(audio, (0, -audio.shape[-1] % self.period))
        x = rearrange(x, "b 1 (t p) -> (b p) 1 t", p=self.period)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return [*features, self.verdict(x)]
