"""Pictures as indexed PNG and SVG, without a plotting library: what is heard, its pitch, and its codes."""

import base64
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vqaudio.dsp import mel_filterbank
from vqaudio.training.page_samples import png

COLUMNS, BANDS = 360, 112  # of a spectrogram, at most
WINDOW_SECONDS = 0.04  # long enough for harmonics of a voice to stand apart
RANGE_DB = 80.0  # below the loudest point of the clip's original
SHADES = 56  # few enough to compress well, too many to see

# Dark to bright, evenly spaced: matplotlib's inferno for sound and viridis for codes, both even in lightness.
INFERNO = ("#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4")
VIRIDIS = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")


def mel_spectrum(audio: Tensor, sample_rate: int, *, bands: int = BANDS, columns: int = COLUMNS) -> np.ndarray:
    """(T,) -> (bands, frames) in dB, the lowest band first, from 0 Hz to half the rate."""
    # Four times the bins that the window needs, interpolated by zeros, so that no low band is left without one.
    window = 2 ** round(np.log2(WINDOW_SECONDS * sample_rate))
    hop = max(window // 8, -(-len(audio) // columns))
    spectrum = torch.stft(
        audio.float(),
        4 * window,
        hop_length=hop,
        win_length=window,
        window=torch.hann_window(window),
        pad_mode="constant",
        return_complex=True,
    )
    bank = mel_filterbank(sample_rate=sample_rate, fft_size=4 * window, num_mels=bands)
    bank = bank / bank.sum(dim=1, keepdim=True)  # a mean: noise of one level has one shade at all heights
    power = (bank @ spectrum.abs().square()).numpy()
    decibels: np.ndarray = 10.0 * np.log10(power + 1e-10)
    return decibels


def mel_places(sample_rate: int, frequencies_hz: Sequence[int]) -> list[tuple[int, float]]:
    """(frequency, height from the bottom in 0 … 1) of those that lie in a spectrogram."""
    edges = mel_filterbank(sample_rate=sample_rate, fft_size=8192, num_mels=BANDS).argmax(dim=1) * sample_rate / 8192
    heights = (np.arange(BANDS) + 0.5) / BANDS
    return [
        (frequency, float(np.interp(frequency, edges.numpy(), heights)))
        for frequency in frequencies_hz
        if frequency < sample_rate / 2
    ]


def spectrogram_png(power: np.ndarray, loudest_db: float) -> bytes:
    """(bands, frames) in dB -> a picture whose brightest shade is `loudest_db`."""
    shades = np.clip((power - loudest_db) / RANGE_DB + 1.0, 0.0, 1.0) * (SHADES - 1)
    return png(np.flipud(shades.round().astype(np.uint8)), gradient(INFERNO))


def codes_png(codes: np.ndarray, ranks: Sequence[np.ndarray]) -> bytes:
    """(K, N) -> a picture of K rows and N columns, the first codebook on top.

    `ranks[k]` gives each code's place when ordered by use: common codes are dark, rare ones bright. The index of a
    code says nothing by itself, and so makes no good colour.
    """
    shades = np.empty(codes.shape, dtype=np.uint8)
    for level, (row, rank) in enumerate(zip(codes, ranks, strict=True)):
        shades[level] = np.round(rank[row] * (SHADES - 1) / max(len(rank) - 1, 1))
    return png(shades, gradient(VIRIDIS))


def ranks_by_use(counts: Sequence[int]) -> np.ndarray:
    """Counts of V codes -> (V,) the place of each, 0 for the most used; equals keep their order."""
    order = np.argsort(-np.asarray(counts, dtype=np.int64), kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def gradient(anchors: Sequence[str], shades: int = SHADES) -> np.ndarray:
    """(shades, 3) uint8 between colours that are evenly spaced."""
    colours = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in anchors], dtype=np.float64)
    places = np.linspace(0, len(colours) - 1, shades)
    channels = [np.interp(places, np.arange(len(colours)), colours[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
