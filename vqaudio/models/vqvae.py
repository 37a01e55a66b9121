"""The VQ-VAE's own encoder and decoder, as plain as the paper draws them (arXiv 1711.00937, section 4.2): strided
convolutions with rectifiers on the way down, their transposes on the way up. Where we differ: convolutions are causal,
as everywhere in this package, and the decoder is convolutional instead of an autoregressive WaveNet.

The decoder emits the waveform (mean squared error) or 256 µ-law classes per sample (cross-entropy).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.nn import CausalConv1d, CausalConvTranspose1d, Stream


@dataclass(frozen=True, kw_only=True)
class PlainEncoderConfig:
    kind: Literal["plain"] = "plain"
    strides: tuple[int, ...] = (2, 2, 2, 2, 2, 2)  # the paper: six strided convolutions, 64 samples per code
    channels: int = 128
    look_ahead_frames: int = 0

    def __post_init__(self) -> None:
        _check_sizes(self.strides, self.channels, self.look_ahead_frames)

    def build(self, *, dim: int) -> "PlainEncoder":
        return PlainEncoder(self, dim=dim)


@dataclass(frozen=True, kw_only=True)
class PlainDecoderConfig:
    kind: Literal["plain"] = "plain"
    strides: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    channels: int = 128
    look_ahead_frames: int = 0

    def __post_init__(self) -> None:
        _check_sizes(self.strides, self.channels, self.look_ahead_frames)

    def build(self, *, dim: int, out_channels: int) -> "PlainDecoder":
        return PlainDecoder(self, dim=dim, out_channels=out_channels)


def _check_sizes(strides: tuple[int, ...], channels: int, look_ahead_frames: int) -> None:
    if not strides or min(*strides, channels) < 1 or look_ahead_frames < 0:
        raise ValueError(
            f"strides {strides} and channels {channels} must be positive, look_ahead_frames {look_ahead_frames} not "
            "negative"
        )


class PlainEncoder(nn.Module):
    """(B, 1, T) -> (B, D, T / hop)."""

    def __init__(self, config: PlainEncoderConfig, *, dim: int) -> None:
        super().__init__()
        self.look_ahead_frames = config.look_ahead_frames
        widths = [1] + [config.channels] * len(config.strides)
        self.down = nn.ModuleList(
            CausalConv1d(width, config.channels, 2 * stride, stride=stride)
            for width, stride in zip(widths, config.strides, strict=False)
        )
        self.project = CausalConv1d(config.channels, dim, 1)

    def forward(self, audio: Tensor, stream: Stream | None = None) -> Tensor:
        x = audio
        for layer in self.down:
            x = F.relu(layer(x, stream))
        latents: Tensor = self.project(x)
        return latents


class PlainDecoder(nn.Module):
    """(B, D, N) -> (B, C, N * hop)."""

    def __init__(self, config: PlainDecoderConfig, *, dim: int, out_channels: int) -> None:
        super().__init__()
        self.look_ahead_frames = config.look_ahead_frames
        self.spread = CausalConv1d(dim, config.channels, 3)
        widths = [config.channels] * len(config.strides) + [out_channels]
        self.up = nn.ModuleList(
            CausalConvTranspose1d(width, width_out, stride=stride)
            for width, width_out, stride in zip(widths, widths[1:], config.strides, strict=False)
        )

    def forward(self, latents: Tensor, stream: Stream | None = None) -> Tensor:
        x = self.spread(latents, stream)
        for layer in self.up:
            x = layer(F.relu(x), stream)
        return x
