"""A decoder that works at the frame rate and speaks in spectra (Vocos, arXiv 2306.00814): ConvNeXt blocks, then for
each spectrum logarithms of magnitudes and a phase, and an inverse short-time Fourier transform with a fixed window.

    latents, 50 Hz ──► ^2 ──► conv ──► blocks ──┬── norm ── logarithms ──┐
                                                └───── complex numbers ──┴─► exp · z ──► inverse STFT ──► samples

Where we differ from Vocos: a phase is a direction, (re, im), not an angle; a frame may hold several spectra, since one
in 20 ms is coarse for speech; and everything is causal. A window begins with the samples of its own frame, so of the
`overlap` hops under it, those after the frame are spoken of before their codes have come, unless the look-ahead covers
them: with 2 spectra of 4 hops of 10 ms and a look-ahead of 2 frames, it does.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vqaudio.models.seanet import LEVEL_GAIN, FrameBlock, aligning_conv, cosines
from vqaudio.models.spectral import HybridLayout
from vqaudio.nn import CausalConv1d, ChannelNorm, LevelExpander, Stream
from vqaudio.nn.spectral import InverseSTFT, Polar, analysis_window


@dataclass(frozen=True, kw_only=True)
class ISTFTDecoderConfig:
    kind: Literal["istft"] = "istft"
    strides: tuple[int, int] = (2, 160)  # spectra in a frame, and samples from one to the next
    overlap: int = 4  # hops under a window: 40 ms (Vocos has 4 too, at 24 kHz 43 ms)
    channels: int = 384
    blocks: int = 4
    expansion: int = 2
    # `free`: the logarithm scales a complex number that has a length of its own. `unit`: that number gives the phase
    # alone, and the logarithm is the magnitude's, as in Vocos
    phase: Literal["free", "unit"] = "unit"
    num_mels: int = 80  # with `unit`: of the encoder's logarithms, from which the start makes magnitudes
    look_ahead_frames: int = 2  # how many frames past its own a sample may depend on

    def __post_init__(self) -> None:
        if min(*self.strides, self.channels, self.expansion) < 1 or min(self.blocks, self.look_ahead_frames) < 0:
            raise ValueError(
                f"strides {self.strides}, channels {self.channels} and expansion {self.expansion} must be positive, "
                f"blocks {self.blocks} and look_ahead_frames {self.look_ahead_frames} not negative"
            )
        if self.overlap < 2 or self.overlap * self.strides[1] % 2:
            raise ValueError(
                f"overlap is {self.overlap} hops of {self.strides[1]} samples; windows must overlap, and be of an even "
                "number of samples"
            )

    def build(self, *, dim: int, out_channels: int) -> "ISTFTDecoder":
        if out_channels != 1:
            raise ValueError(f"a decoder of kind 'istft' makes samples, not {out_channels} channels of classes")
        return ISTFTDecoder(self, dim=dim)


class ISTFTDecoder(nn.Module):
    """(B, D, N) -> (B, 1, N * hop)."""

    def __init__(self, config: ISTFTDecoderConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        self.look_ahead_frames = config.look_ahead_frames
        spectra, hop = config.strides
        bins = config.overlap * hop // 2 + 1
        width, unit = config.channels, config.phase == "unit"
        self.expand = nn.Identity() if unit else LevelExpander()
        self.project = aligning_conv(dim, width, look_ahead=config.look_ahead_frames)
        self.blocks = nn.ModuleList(FrameBlock(width, expansion=config.expansion) for _ in range(config.blocks))
        self.norm = ChannelNorm(width)
        self.logarithms = CausalConv1d(width, spectra * bins, 1)
        self.spectrum = CausalConv1d(width, spectra * 2 * bins, 1, bias=False)  # silence need not fight an offset
        self.polar = Polar(spectra=spectra, bins=bins, unit=unit)
        self.inverse = InverseSTFT(spectra=spectra, hop=hop, overlap=config.overlap)
        _start_as_transform(self)

    def forward(self, latents: Tensor, stream: Stream | None = None) -> Tensor:
        x = self.project(self.expand(latents), stream)
        for block in self.blocks:
            x = block(x, stream)
        spectra = self.polar(self.logarithms(self.norm(x)), self.spectrum(x))
        audio: Tensor = self.inverse(spectra, stream)
        return audio


@torch.no_grad()
def _start_as_transform(decoder: ISTFTDecoder) -> None:
    """Start as the inverse of the encoder's block transform (see `seanet`).

    The projection lays side by side the cosine coefficients of a frame and of those after it that its windows reach
    into, as far as the look-ahead goes; the complex numbers start as the spectra of the samples that these stand for.
    Both are linear, and all factors start as exp(0).

        frame n  n+1  n+2          coefficients -> samples -> under a window -> spectrum
              w w w w              spectrum 0 of frame n
                w w w w            spectrum 1
    """
    config = decoder.config
    spectra, hop = config.strides
    frame, window = spectra * hop, config.overlap * hop
    reach = (hop * (spectra - 1) + window - 1) // frame  # frames after its own that the last window sees
    frames = min(reach, config.look_ahead_frames) + 1
    weight = decoder.project.conv.weight  # (C, D, taps); tap 1 is the frame itself
    rows = min(weight.shape[1], config.channels // frames, frame)
    weight[: rows * frames] = 0.0
    for index in range(frames):
        for row in range(rows):
            weight[index * rows + row, row, 1 + index] = 1.0
    waves = rows if config.phase == "free" else min(rows, HybridLayout(weight.shape[1], config.num_mels).waves)
    samples = torch.zeros(frames * rows, (reach + 1) * frame, dtype=torch.float64)
    for index in range(frames):
        place = slice(index * frame, (index + 1) * frame)
        samples[index * rows : index * rows + waves, place] = cosines(waves, frame).double() / LEVEL_GAIN
    parts = []
    for spectrum in range(spectra):
        seen = samples[:, spectrum * hop : spectrum * hop + window] * analysis_window(hop, config.overlap)
        z = torch.fft.rfft(seen)  # (rows of all frames, F)
        parts += [z.real, z.imag]
    start = decoder.spectrum.conv.weight
    if config.phase == "unit":  # where no wave is carried, any phase is as good as another: small random numbers
        start.mul_(0.01)
    else:
        start.zero_()
    start[:, : rows * frames, 0] += torch.cat(parts, dim=1).t().float()
    decoder.logarithms.conv.weight.zero_()
    if config.phase == "unit" and rows == decoder.project.conv.in_channels:
        _start_logarithms(decoder.logarithms, HybridLayout(rows, config.num_mels), spectra=spectra, frames=frames)


def _start_logarithms(conv: CausalConv1d, layout: HybridLayout, *, spectra: int, frames: int) -> None:
    """Logarithms of bands, as the hybrid encoder writes them into its latents, spread over the bins.

    Spectrum j of frame n begins with its hop; of the `spectra` windows that the latents of a frame tell of, the first
    begins one hop before the frame. So it is window j + 1 of the frame, and the last is the first of the next frame.
    """
    bins = conv.conv.out_channels // spectra
    spread = layout.spread(bins)  # (F, M)
    for j in range(spectra):
        frame, window = divmod(j + 1, spectra)
        rows = layout.log_bands(spectra, window)  # (M, D)
        frame = min(frame, frames - 1)
        conv.conv.weight[j * bins : (j + 1) * bins, frame * layout.dim : (frame + 1) * layout.dim, 0] = spread @ rows
