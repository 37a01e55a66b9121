"""An encoder that looks at spectra: logarithms of mel bands, and the wave at low frequencies.

Codes are chosen by squared error. In a waveform, nearly all energy is below 1.5 kHz, so a coder of waveforms spends its
bits there and formants above are lost. Here the latents start as two halves that weigh about the same: what the ear
hears first, the logarithm of the spectrum in mel bands, and the wave itself as far as its phase can be afforded.

    samples ── STFT, 100 Hz ──► log bands | low bins ── conv /2 ──► blocks ──► latents, 50 Hz

A decoder of kind `istft` with `phase = "unit"` starts as its inverse.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vqaudio.dsp import mel_filterbank
from vqaudio.models.seanet import LEVEL_GAIN, FrameBlock, aligning_conv, cosines
from vqaudio.nn import CausalConv1d, Stream
from vqaudio.nn.spectral import ForwardSTFT, LogBands, analysis_window

_BANDS_RATE = 16_000  # Hz; at other rates the bands keep their shares of the spectrum
# Of the logarithms in the latents: an error of 3 dB in a band then weighs as much as the wave's at about 5 dB
_LOG_GAIN = 0.125
_WAVE_GAIN = 0.5


@dataclass(frozen=True)
class HybridLayout:
    """What the `dim` latents stand for at the start: waves, then sums of log bands over a frame, then differences.

    waves         cosine coefficients of the frame's samples, the lowest frequencies
    sums          cosine coefficients over the bands, of the mean of the frame's windows
    differences   the same, of what changes from window to window
    """

    dim: int
    num_mels: int

    @property
    def waves(self) -> int:
        return self.dim // 2

    @property
    def sums(self) -> int:
        return min(self.num_mels, self.dim * 3 // 8)

    @property
    def differences(self) -> int:
        return min(self.num_mels, self.dim - self.waves - self.sums)

    def log_bands(self, windows: int, window: int) -> Tensor:
        """(M, D): the latents -> the log bands of one of the frame's windows."""
        over_time = cosines(windows, windows)  # (coefficient, window)
        rows = torch.zeros(self.num_mels, self.dim)
        first, last = self.waves, self.waves + self.sums
        rows[:, first:last] = over_time[0, window] * cosines(self.sums, self.num_mels).t() / _LOG_GAIN
        if windows > 1:
            bands = cosines(self.differences, self.num_mels).t()
            rows[:, last : last + self.differences] = over_time[1, window] * bands / _LOG_GAIN
        return rows

    def spread(self, bins: int) -> Tensor:
        """(F, M): log bands -> log magnitudes of the bins, interpolated between the bands' middles."""
        bank = mel_filterbank(sample_rate=_BANDS_RATE, fft_size=2 * (bins - 1), num_mels=self.num_mels)
        middles = (bank @ torch.arange(bins, dtype=torch.float32)) / bank.sum(dim=1).clamp(min=1e-12)
        spread = torch.zeros(bins, self.num_mels)
        for bin_ in range(bins):
            above = int((middles < bin_).sum())
            low, high = max(above - 1, 0), min(above, self.num_mels - 1)
            share = (
                0.0 if high == low else float((bin_ - middles[low]) / (middles[high] - middles[low]).clamp(min=1e-6))
            )
            spread[bin_, low] += 1 - min(share, 1.0)
            spread[bin_, high] += min(share, 1.0)
        return spread


@dataclass(frozen=True, kw_only=True)
class HybridEncoderConfig:
    kind: Literal["hybrid"] = "hybrid"
    strides: tuple[int, int] = (160, 2)  # samples from spectrum to spectrum, and spectra in a frame
    overlap: int = 4  # hops under a window
    num_mels: int = 80
    channels: int = 320
    blocks: int = 3
    expansion: int = 2
    look_ahead_frames: int = 2

    def __post_init__(self) -> None:
        if min(*self.strides, self.num_mels, self.channels, self.expansion) < 1 or self.overlap < 2:
            raise ValueError(
                f"strides {self.strides}, num_mels {self.num_mels}, channels {self.channels} and expansion "
                f"{self.expansion} must be positive, overlap {self.overlap} 2 or more"
            )
        if min(self.blocks, self.look_ahead_frames) < 0:
            raise ValueError(
                f"blocks {self.blocks} and look_ahead_frames {self.look_ahead_frames} must not be negative"
            )

    def build(self, *, dim: int) -> "HybridEncoder":
        return HybridEncoder(self, dim=dim)


class HybridEncoder(nn.Module):
    """(B, 1, T) -> (B, D, T / hop)."""

    def __init__(self, config: HybridEncoderConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        self.look_ahead_frames = config.look_ahead_frames
        hop, windows = config.strides
        self.layout = HybridLayout(dim, config.num_mels)
        window = config.overlap * hop
        bins = window // 2 + 1
        # a cosine of row k lies at k / (2 · frame) of the sampling rate; some bins more for the window's width
        low = min(bins, self.layout.waves * window // (2 * hop * windows) + 8)
        self.spectra = ForwardSTFT(hop=hop, overlap=config.overlap)
        bank = mel_filterbank(sample_rate=_BANDS_RATE, fft_size=window, num_mels=config.num_mels)
        self.features = LogBands(bank, low=low)
        self.gather = CausalConv1d(self.features.out_channels, config.channels, 2 * windows, stride=windows)
        self.blocks = nn.ModuleList(
            FrameBlock(config.channels, expansion=config.expansion) for _ in range(config.blocks)
        )
        self.project = aligning_conv(config.channels, dim, look_ahead=config.look_ahead_frames)
        _start(self)

    def forward(self, audio: Tensor, stream: Stream | None = None) -> Tensor:
        x = self.gather(self.features(self.spectra(audio, stream)), stream)
        for block in self.blocks:
            x = block(x, stream)
        latents: Tensor = self.project(x, stream)
        return latents


@torch.no_grad()
def _start(encoder: HybridEncoder) -> None:
    """The gathering convolution starts as the latents themselves, the projection hands them on.

    Frame n is told by windows that begin one hop before it and later: with two windows of four hops, the first has the
    frame in its middle. It ends one hop after the frame and comes in the next step, hence one tap later.

        hops        2n-1   2n  2n+1  2n+2  2n+3
        window 0      w     w    w     w              step n + 1 begins with hop 2n + 2
        window 1            w    w     w     w

    Without look-ahead there is no later step: the wave is taken from the newest window, which ends with the frame and
    fades there, and the log bands are those of a frame before.
    """
    config, layout = encoder.config, encoder.layout
    hop, windows = config.strides
    weight = encoder.gather.conv.weight  # (C, features, 2 · windows); the newest taps are this step's windows
    rows = min(layout.dim, len(weight))
    start = torch.zeros(layout.dim, weight.shape[1], windows)
    frame, window = hop * windows, config.overlap * hop
    low, mels = encoder.features.low, config.num_mels
    # window 0 without its hop in front and what is behind the frame: spectrum -> samples -> cosines
    waves = torch.fft.irfft(torch.complex(*torch.eye(2 * low, dtype=torch.float64).split(low, dim=1)), n=window)
    late = config.look_ahead_frames > 0
    inside = slice(hop, hop + frame) if late else slice(window - frame, window)
    samples = (waves / analysis_window(hop, config.overlap).clamp(min=0.2))[:, inside]
    cosine_rows = LEVEL_GAIN * _WAVE_GAIN * (cosines(layout.waves, frame).double() @ samples.t())
    start[: layout.waves, mels:, 0 if late else -1] = cosine_rows.float()
    for index in range(windows):
        start[:, :mels, index] = layout.log_bands(windows, index).t() * _LOG_GAIN**2
    weight[:rows] = 0.0
    weight[:rows, :, windows:] = start[:rows]
    taps = encoder.project.conv.weight  # (D, C, taps); tap 1 is the frame's own step
    taps[:, :, 1:] = 0.0
    own = min(2, taps.shape[2] - 1)
    taps[:rows, :rows, own] = torch.eye(rows)
