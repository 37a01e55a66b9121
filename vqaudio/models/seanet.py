"""The default encoder and decoder: strided causal convolutions with residual units (SEANet, arXiv 2009.02095, as in
SoundStream, arXiv 2107.03312), Snake activations, and ConvNeXt blocks (arXiv 2201.03545, as in Vocos, arXiv 2306.00814)
at the frame rate, where a multiplication is cheapest.

    samples   16,000 Hz     2,000 Hz        400 Hz         100 Hz        50 Hz
    encoder   ── conv /8 ──► units ── /5 ──► units ── /4 ──► units ── /2 ──► blocks ──► ^½ ──► latents
    decoder   ◄── up ×8 ──── units ◄── ×5 ── units ◄── ×4 ── units ◄── ×2 ── blocks ◄── ^2 ◄── latents

There is no layer at the full sample rate: the first convolution already strides by 8, which makes the model several
times cheaper than one that begins with narrow convolutions at 16 kHz. The encoder ends by compressing each
frame's level and the decoder starts by expanding it, so that quiet speech gets codes of its own.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.nn import CausalConv1d, CausalConvTranspose1d, ChannelNorm, LevelCompressor, LevelExpander, Snake, Stream


def aligning_conv(in_channels: int, out_channels: int, *, look_ahead: int) -> CausalConv1d:
    """A convolution over one past frame, the frame itself and `look_ahead` later ones, that starts as the frame itself.

    A side with a look-ahead runs late, so its input has to wait `look_ahead` frames for its output, while skips carry
    the newest frame. Started on the right tap, the whole chain is aligned from the first step.

        taps     n-1   n   n+1   n+2         (look-ahead 2)
        start     0    W    0     0
    """
    conv = CausalConv1d(in_channels, out_channels, look_ahead + 2)
    weight = conv.conv.weight.data
    weight[..., 1].mul_((look_ahead + 2) ** 0.5)  # the variance of all taps, in one
    weight[..., 0] = 0.0
    weight[..., 2:] = 0.0
    return conv


class ResidualUnit(nn.Module):
    """x + conv1x1(snake(conv(snake(x)))), (B, C, T) in and out."""

    def __init__(self, channels: int, *, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.activation_in = Snake(channels)
        self.conv = CausalConv1d(channels, channels, kernel_size, dilation=dilation)
        self.activation_out = Snake(channels)
        self.mix = CausalConv1d(channels, channels, 1)
        self.mix.conv.weight.data.zero_()  # the branch starts as nothing, see `_start_as_transform`

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
        self.contract.conv.weight.data.zero_()

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
        _check_rest(self)

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
        _check_rest(self)

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


def _check_rest(config: SeanetEncoderConfig | SeanetDecoderConfig) -> None:
    if not config.dilations or min(*config.dilations, config.unit_kernel, config.expansion) < 1:
        raise ValueError(
            f"dilations {config.dilations}, unit_kernel {config.unit_kernel} and expansion {config.expansion} must be "
            "positive"
        )
    if min(config.blocks, config.look_ahead_frames) < 0:
        raise ValueError(
            f"blocks {config.blocks} and look_ahead_frames {config.look_ahead_frames} must not be negative"
        )


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
        self.project = aligning_conv(width, dim, look_ahead=config.look_ahead_frames)
        self.compress = LevelCompressor()
        _start_encoder_as_transform(self)

    def forward(self, audio: Tensor, stream: Stream | None = None) -> Tensor:
        x = audio
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, stream)
        latents: Tensor = self.compress(self.project(x, stream))
        return latents


class SeanetDecoder(nn.Module):
    """(B, D, N) -> (B, C, N * hop). The last convolution has no bias: silence need not fight an offset."""

    def __init__(self, config: SeanetDecoderConfig, *, dim: int, out_channels: int) -> None:
        super().__init__()
        self.look_ahead_frames = config.look_ahead_frames
        width = config.channels[0]
        layers: list[nn.Module] = [aligning_conv(dim, width, look_ahead=config.look_ahead_frames)]
        layers += [FrameBlock(width, expansion=config.expansion) for _ in range(config.blocks)]
        widths = (*config.channels[1:], out_channels)
        for index, (stride, units, width_out) in enumerate(zip(config.strides, config.units, widths, strict=True)):
            layers += _units(width, units, kernel_size=config.unit_kernel, dilations=config.dilations)
            layers.append(Snake(width))
            last = index == len(widths) - 1
            layers.append(CausalConvTranspose1d(width, width_out, stride=stride, bias=not last))
            width = width_out
        self.expand = LevelExpander()
        self.layers = nn.ModuleList(layers)
        _start_decoder_as_transform(self)

    def forward(self, latents: Tensor, stream: Stream | None = None) -> Tensor:
        x = self.expand(latents)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, stream)
        return x


# How the chain starts: as a block transform coder. Random strided convolutions lose most of a waveform. So every stage
# starts by handing its input on: stride s stacks s frames of its carrying channels into s times as many, until the last
# stage holds the frame's own samples, and the projection takes their lowest cosine coefficients (DCT-II). The decoder
# starts as the transpose. Channels beyond those start random, residual branches at zero.
#
#     1 ch   /8    8 of 32 ch   /5   40 of 80 ch   /4   160 of 160 ch   /2   320 of 320 ch   DCT   128 latents
#
# Speech at its usual -25 dBFS runs through at about this level, where Snake bends a little:
LEVEL_GAIN = 4.0
# and bends less in the channels that carry the waveform.
_CARRIER_ALPHA = 0.05


@torch.no_grad()
def _start_encoder_as_transform(encoder: SeanetEncoder) -> None:
    carried = 1
    for layer in encoder.layers:
        if isinstance(layer, Snake):
            layer.alpha[:carried] = _CARRIER_ALPHA
        elif isinstance(layer, CausalConv1d):
            weight, stride, incoming = layer.conv.weight, layer.stride, carried
            carried = min(incoming * stride, len(weight))
            weight[:carried] = 0.0
            for channel in range(carried):
                # the newest `stride` of the 2 * stride taps are this frame
                weight[channel, channel % incoming, stride + channel // incoming] = 1.0
            if incoming == 1:
                weight.mul_(LEVEL_GAIN)
        elif isinstance(layer, ResidualUnit):
            layer.activation_in.alpha[:carried] = _CARRIER_ALPHA
    weight = encoder.project.conv.weight  # (D, C, taps), aligned on tap 1
    rows = min(len(weight), carried)
    weight[:rows] = 0.0
    weight[:rows, :carried, 1] = cosines(rows, carried)


@torch.no_grad()
def _start_decoder_as_transform(decoder: SeanetDecoder) -> None:
    strides = [layer.stride for layer in decoder.layers if isinstance(layer, CausalConvTranspose1d)]
    first = decoder.layers[0]
    assert isinstance(first, CausalConv1d)
    carried = min(prod(strides), first.conv.out_channels)
    columns = min(first.conv.in_channels, carried)
    first.conv.weight[:carried] = 0.0
    first.conv.weight[:carried, :columns, 1] = cosines(columns, carried).t()
    for layer in decoder.layers:
        if isinstance(layer, Snake):
            layer.alpha[:carried] = _CARRIER_ALPHA
        elif isinstance(layer, CausalConvTranspose1d):
            outgoing = min(-(-carried // layer.stride), layer.out_channels)
            weight = layer.conv.weight.view(layer.stride, layer.out_channels, -1, 2)
            weight[:, :outgoing] = 0.0
            for channel in range(min(carried, outgoing * layer.stride)):
                weight[channel // outgoing, channel % outgoing, channel, 1] = 1.0  # tap 1 is this frame
            carried = outgoing
            if layer is decoder.layers[-1]:
                weight.mul_(1.0 / LEVEL_GAIN)


def cosines(rows: int, length: int) -> Tensor:
    """The first `rows` of the orthonormal DCT-II of `length` samples, (rows, length)."""
    k, n = torch.arange(rows).unsqueeze(1), torch.arange(length)
    basis = torch.cos(torch.pi / length * (n + 0.5) * k) * (2.0 / length) ** 0.5
    basis[0] *= 0.5**0.5
    return basis


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
