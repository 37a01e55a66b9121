"""Spectral losses. (estimate, reference), both (B, 1, T); scalars come back."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.dsp import mel_filterbank

_COMPRESSION = 0.3  # exponent


def stft(audio: Tensor, window: Tensor) -> Tensor:
    """(B, 1, T) -> complex (B, F, frames): hop a quarter of the window, reflected edges, as descript-audio-codec.

    Zeros follow what is not longer than half a window.
    """
    size = len(window)
    missing = size // 2 + 1 - audio.shape[-1]  # edges are reflected, and a clip shorter than them cannot be
    if missing > 0:
        audio = F.pad(audio, (0, missing))
    return torch.stft(audio[:, 0], size, hop_length=size // 4, window=window, return_complex=True)


class MultiScaleMel(nn.Module):
    """Mean over scales of the L1 distance between log10 mel spectra (descript-audio-codec, arXiv 2306.06546, sec. 3.3).

    Short windows carry few bands: 5 mels at 32 samples, doubling to 320 at 2048, which keeps filters from being empty.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        windows: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048),
        num_mels: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320),
        floor: float = 1e-5,
    ) -> None:
        super().__init__()
        if len(windows) != len(num_mels):
            raise ValueError(f"{len(windows)} windows but {len(num_mels)} numbers of mels; give one number per window")
        self.floor = floor
        self.windows = windows
        for size, mels in zip(windows, num_mels, strict=True):
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            bank = mel_filterbank(sample_rate=sample_rate, fft_size=size, num_mels=mels)
            self.register_buffer(f"bank_{size}", bank, persistent=False)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        total = estimate.new_zeros(())
        for size in self.windows:
            window, bank = self.get_buffer(f"window_{size}"), self.get_buffer(f"bank_{size}")
            with torch.no_grad():
                target = self._log_mel(reference, window, bank)
            total = total + (self._log_mel(estimate, window, bank) - target).abs().mean()
        return total / len(self.windows)

    def _log_mel(self, audio: Tensor, window: Tensor, bank: Tensor) -> Tensor:
        spectrum = stft(audio, window)
        # |X| through the squared parts, with a tiny offset: the gradient of abs() at zero is undefined
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-14).sqrt()
        return torch.log10((bank @ magnitude).clamp(min=self.floor))


class MultiResolutionSTFT(nn.Module):
    """Distances between short-time spectra at several windows (Parallel WaveGAN, arXiv 1910.11480, eqs. 4-6).

    Returns scalars, each a mean over windows: `magnitude`, the spectral convergence ‖|X|-|Y|‖ / ‖Y‖ per item;
    `log_magnitude`, L1 of log10 |X|; `complex`, the mean of |X - Y| relative to the mean of |Y| per item.

    With `compressed` two more, between linear and logarithmic: `compressed_magnitude`, the mean of ||X|^c - |Y|^c|
    relative to the mean of |Y|^c per item, c = 0.3, about the power by which loudness grows (Ephrat et al., arXiv
    1804.03619, sec. 4); and `compressed_complex`, the same with phases kept (Braun & Tashev, arXiv 2009.12286).
    Only the two complex ones hear phase.
    """

    def __init__(
        self, *, windows: tuple[int, ...] = (256, 512, 1024), floor: float = 1e-5, compressed: bool = False
    ) -> None:
        super().__init__()
        self.windows, self.floor, self.compressed = windows, floor, compressed
        for size in windows:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, estimate: Tensor, reference: Tensor) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {"magnitude": [], "log_magnitude": [], "complex": []}
        if self.compressed:
            parts |= {"compressed_magnitude": [], "compressed_complex": []}
        for size in self.windows:
            window = self.get_buffer(f"window_{size}")
            x = stft(estimate, window)
            with torch.no_grad():
                y = stft(reference, window)
                y_magnitude = _magnitude(y)
                # near-silent items are measured against the level that noise of -50 dBFS would have
                floor = 3e-3 * window.square().sum().sqrt()
                y_level = y_magnitude.mean(dim=(1, 2)).clamp(min=floor)
                y_norm = y_magnitude.square().mean(dim=(1, 2)).sqrt().clamp(min=floor)
            x_magnitude = _magnitude(x)
            difference = (x_magnitude - y_magnitude).square().mean(dim=(1, 2)).add(1e-14).sqrt()
            parts["magnitude"].append((difference / y_norm).mean())
            log_ratio = x_magnitude.clamp(min=self.floor).log10() - y_magnitude.clamp(min=self.floor).log10()
            parts["log_magnitude"].append(log_ratio.abs().mean())
            parts["complex"].append((_magnitude(x - y).mean(dim=(1, 2)) / y_level).mean())
            if self.compressed:
                magnitude, phased = _compressed_distances(x, y, floor=floor)
                parts["compressed_magnitude"].append(magnitude)
                parts["compressed_complex"].append(phased)
        return {name: torch.stack(values).mean() for name, values in parts.items()}


def _compressed_distances(x: Tensor, y: Tensor, *, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Of spectra under the power law, without and with their phases; relative to the level of `y`, at least `floor`."""
    x_compressed = _compress(x)
    with torch.no_grad():
        y_compressed = _compress(y)
        y_magnitude = _magnitude(y_compressed)
        level = y_magnitude.mean(dim=(1, 2)).clamp(min=floor**_COMPRESSION)
    magnitude = (_magnitude(x_compressed) - y_magnitude).abs().mean(dim=(1, 2)) / level
    phased = _magnitude(x_compressed - y_compressed).mean(dim=(1, 2)) / level
    return magnitude.mean(), phased.mean()


def _compress(spectrum: Tensor) -> Tensor:
    """|X|^c under the phase of X. The slope stays finite below magnitudes of 1e-3, some -100 dBFS (see `LogBands`)."""
    power = spectrum.real.square() + spectrum.imag.square() + 1e-6
    return spectrum * power.pow((_COMPRESSION - 1.0) / 2.0)


def _magnitude(spectrum: Tensor) -> Tensor:
    return (spectrum.real.square() + spectrum.imag.square() + 1e-14).sqrt()
