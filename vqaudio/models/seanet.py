"""The default encoder and decoder: strided causal convolutions with residual units (SEANet, arXiv 2009.02095, as in
SoundStream, arXiv 2107.03312), Snake activations, and ConvNeXt blocks (arXiv 2201.03545, as in Vocos, arXiv 2306.00814)
at the frame rate, where a multiplication is cheapest.

    samples   16,000 Hz     2,000 Hz        400 Hz         100 Hz        50 Hz
    encoder   ── conv /8 ──► units ── /5 ──► units ── /4 ──► units ── /2 ──► blocks ──► norm ──► latents
    decoder   ◄── up ×8 ──── units ◄── ×5 ── units ◄── ×4 ── units ◄── ×2 ── blocks ◄─────────── latents

There is no layer at the full sample rate: the first convolution already strides by 8, which makes the model several
times cheaper than one that begins with narrow convolutions at 16 kHz. The encoder ends in a per-frame normalisation,
so that a quiet recording uses the same region of the latent space as a loud one.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.nn import CausalConv1d, CausalConvTranspose1d, ChannelNorm, Snake, Stream

# Residual branches start small, so that depth does not multiply the signal at the start.
_BRANCH_GAIN = 0.3
# The decoder starts at about the level of speech, not at full scale.
_OUTPUT_GAIN = 0.05


class ResidualUnit(nn.Module):
    """x + conv1x1(snake(conv(snake(x)))), (B, C, T) in and out."""

    def __init__(self, channels: int, *, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.activation_in = Snake(channels)
        self.conv = CausalConv1d(channels, channels, kernel_size, dilation=dilation)
        self.activation_out = Snake(channels)
        self.mix = CausalConv1d(channels, channels, 1)
        self.mix.conv.weight.data.mul_(_BRANCH_GAIN)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        y = self.conv(self.activation_in(x), stream)
        return x + self.mix(self.activation_out(y))


class FrameBlock(nn.Module):
    """ConvNeXt block: depthwise convolution over time, norm, and a two-layer perceptron per frame; (B, C, N)."""

    def __init__(self, channels: int, *, expansion: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.depthwise = CausalConv1d(channels, channels, kernel_size, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = CausalConv1d(channels, expansion * channels, 1)
        self.contract = CausalConv1d(expansion * channels, channels, 1)
        self.contract.conv.weight.data.mul_(_BRANCH_GAIN)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        y = self.norm(self.depthwise(x, stream))
        return x + self.contract(F.gelu(self.expand(y)))


@dataclass(frozen=True, kw_only=True)
class SeanetEncoderConfig:
    kind: Literal["seanet"] = "seanet"
    strides: tuple[int, ...] = (8, 5, 4, 2)  # from the waveform to the frame rate; their product is the hop
    channels: tuple[int, ...] = (32, 80, 160, 320)  # after each stride
    units: tuple[int, ...] = (1, 1, 1, 0)  # residual units after each stride
    unit_kernel: int = 5
    dilations: tuple[int, ...] = (1, 3)  # of the units of a stage, in turn
    blocks: int = 3  # ConvNeXt blocks at the frame rate
    expansion: int = 2
    look_ahead_frames: int = 2  # how far past its own end a frame's latents may see

    def __post_init__(self) -> None:
        _check_stages(self.strides, self.channels, self.units)

    def build(self, *, dim: int) -> "SeanetEncoder":
        return SeanetEncoder(self, dim=dim)


@dataclass(frozen=True, kw_only=True)
class SeanetDecoderConfig:
    kind: Literal["seanet"] = "seanet"
    strides: tuple[int, ...] = (2, 4, 5, 8)  # from the frame rate to the waveform
    channels: tuple[int, ...] = (320, 160, 96, 32)  # before each stride
    units: tuple[int, ...] = (0, 1, 2, 1)  # residual units before each stride
    unit_kernel: int = 5
    dilations: tuple[int, ...] = (1, 3)
    blocks: int = 4
    expansion: int = 2
    look_ahead_frames: int = 2  # how many frames past its own a sample may depend on

    def __post_init__(self) -> None:
        _check_stages(self.strides, self.channels, self.units)

    def build(self, *, dim: int, out_channels: int) -> "SeanetDecoder":
        return SeanetDecoder(self, dim=dim, out_channels=out_channels)


def _check_stages(strides: tuple[int, ...], channels: tuple[int, ...], units: tuple[int, ...]) -> None:
    if not len(strides) == len(channels) == len(units) or not strides:
        raise ValueError(
            f"strides, channels and units must have one entry per stage; got {len(strides)}, {len(channels)} and "
            f"{len(units)} entries"
        )
    if min(strides) < 1 or min(channels) < 1 or min(units) < 0:
        raise ValueError(f"strides {strides} and channels {channels} must be positive, units {units} not negative")


def _units(channels: int, count: int, *, kernel_size: int, dilations: tuple[int, ...]) -> list[ResidualUnit]:
    return [
        ResidualUnit(channels, kernel_size=kernel_size, dilation=dilations[index % len(dilations)])
        for index in range(count)
    ]


class SeanetEncoder(nn.Module):
    """(B, 1, T) -> (B, D, T / hop), delayed by nothing: frame n has seen samples up to (n + 1) * hop - 1."""

    def __init__(self, config: SeanetEncoderConfig, *, dim: int) -> None:
        super().__init__()
        self.look_ahead_frames = config.look_ahead_frames
        layers: list[nn.Module] = []
        width = 1
        for stride, channels, units in zip(config.strides, config.channels, config.units, strict=True):
            if layers:
                layers.append(Snake(width))
            layers.append(CausalConv1d(width, channels, 2 * stride, stride=stride))
            layers += _units(channels, units, kernel_size=config.unit_kernel, dilations=config.dilations)
            width = channels
        layers += [FrameBlock(width, expansion=config.expansion) for _ in range(config.blocks)]
        self.layers = nn.ModuleList(layers)
        self.norm_in = ChannelNorm(width)
        self.project = CausalConv1d(width, dim, 1)
        self.norm_out = ChannelNorm(dim)

    def forward(self, audio: Tensor, stream: Stream | None = None) -> Tensor:
        x = audio
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, stream)
        latents: Tensor = self.norm_out(self.project(self.norm_in(x)))
        return latents


class SeanetDecoder(nn.Module):
    """(B, D, N) -> (B, C, N * hop). The last convolution has no bias: silence need not fight an offset."""

    def __init__(self, config: SeanetDecoderConfig, *, dim: int, out_channels: int) -> None:
        super().__init__()
        self.look_ahead_frames = config.look_ahead_frames
        width = config.channels[0]
        layers: list[nn.Module] = [CausalConv1d(dim, width, 3)]
        layers += [FrameBlock(width, expansion=config.expansion) for _ in range(config.blocks)]
        widths = (*config.channels[1:], out_channels)
        for index, (stride, units, width_out) in enumerate(zip(config.strides, config.units, widths, strict=True)):
            layers += _units(width, units, kernel_size=config.unit_kernel, dilations=config.dilations)
            layers.append(Snake(width))
            last = index == len(widths) - 1
            layers.append(CausalConvTranspose1d(width, width_out, stride=stride, bias=not last))
            width = width_out
        self.layers = nn.ModuleList(layers)
        layers[-1].get_parameter("conv.weight").data.mul_(_OUTPUT_GAIN)

    def forward(self, latents: Tensor, stream: Stream | None = None) -> Tensor:
        x = latents
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, stream)
        return x


def history_samples(module: nn.Module, *, samples_per_frame: int) -> int:
    """How many samples of past a causal chain can see beyond its own frame, in samples of the waveform.

    Every layer adds its own history in units of its input's frames; `samples_per_frame` is that unit at the input
    (1 for an encoder, the hop for a decoder). Layers are registered in the order in which they run, and a residual
    branch is the longest path around its skip, so the sum over all layers is exact.
    """
    unit = Fraction(samples_per_frame)
    total = Fraction(0)
    for layer in module.modules():
        if isinstance(layer, CausalConv1d):
            total += layer.history * unit
            unit *= layer.stride
        elif isinstance(layer, CausalConvTranspose1d):
            total += layer.history * unit
            unit /= layer.stride
    assert total.denominator == 1
    return int(total)
