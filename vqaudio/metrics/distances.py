"""How far an estimate is from its reference: (estimate, reference), both (B, 1, T) -> one value per item, (B,) float32.

Every item is measured by itself; its neighbours cannot change its value. `si_sdr` is better when higher, the distances
when lower. Nothing here has a gradient: `vqaudio.losses` has what trains.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from vqaudio.losses.spectral import MultiScaleMel, stft

MAX_SI_SDR = 100.0  # dB; a full-scale sine rounded to 16 bits has 98
STFT_WINDOWS = (2048, 512)  # samples; those of descript-audio-codec's evaluation
STFT_FLOOR = 1e-5  # magnitude; of the same
LSD_WINDOW = 2048  # samples
LSD_FLOOR = 1e-8  # power; rounding to 16 bits puts 6e-8 into each bin of a window


@torch.no_grad()
def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv 1811.02508), in float64. Means are not
    removed, as audio has none.

    Within ±100 dB, so that it is always a number: equal signals, at any level and of either sign, have 100, and an
    estimate with nothing of the reference in it has -100. Silence is such an estimate, unless the reference is silent
    too. Against a silent reference all other estimates have -100.
    """
    _check(estimate, reference)
    one, other = estimate[:, 0].double(), reference[:, 0].double()  # (B, T)
    energy = other.square().sum(dim=1)
    gain = (one * other).sum(dim=1) / energy.clamp(min=torch.finfo(energy.dtype).tiny)
    target = gain[:, None] * other
    kept, lost = target.square().sum(dim=1), (one - target).square().sum(dim=1)
    ratio = (10 * (kept.log10() - lost.log10())).clamp(-MAX_SI_SDR, MAX_SI_SDR)
    silence = torch.where(energy == 0, MAX_SI_SDR, -MAX_SI_SDR)
    return torch.where(one.square().sum(dim=1) == 0, silence, ratio).float()


@torch.no_grad()
def mel_distance(estimate: Tensor, reference: Tensor, *, sample_rate: int) -> Tensor:
    """L1 distance of log10 mel magnitudes, *summed* over seven windows from 32 to 2,048 samples with 5 to 320 bands:
    what descript-audio-codec (arXiv 2306.06546, sec. 4.4) and its successors call mel distance, its
    `MelSpectrogramLoss` as conf/base.yml sets it. 0 for equal signals; 1 is 20 / 7 dB per band and frame on average.
    It depends on `sample_rate` (Hz): compare at one rate only. Magnitudes below 1e-5 count as 1e-5.

    ValueError for fewer than 1,025 samples, which the longest window cannot reflect at the edges.
    """
    loss = _mel(sample_rate).to(estimate.device)
    _check(estimate, reference, longest_window=max(loss.windows))
    return len(loss.windows) * _per_item(loss, estimate.float(), reference.float())


@torch.no_grad()
def stft_distance(estimate: Tensor, reference: Tensor) -> Tensor:
    """descript-audio-codec's STFT distance (arXiv 2306.06546, sec. 4.4; its `MultiScaleSTFTLoss`): the L1 distance of
    the magnitudes plus that of the log10 powers, summed over windows of 2,048 and 512 samples, with hops of a quarter.
    Every frequency counts alike: the highest octave as much as all below it, where `mel_distance` gives it few bands.

    No unit, and not free of level: 4 is 20 dB everywhere, and the magnitudes, which nothing normalises, add most where
    signals are loud. Magnitudes below 1e-5 count as 1e-5 in the logarithm. ValueError for fewer than 1,025 samples.
    """
    _check(estimate, reference, longest_window=max(STFT_WINDOWS))
    return _per_item(_stft_distance, estimate.float(), reference.float())


@torch.no_grad()
def log_spectral_distance(estimate: Tensor, reference: Tensor) -> Tensor:
    """Log spectral distance in dB: the root mean square over frequency of the difference of the power spectra in dB,
    averaged over frames (the L2 norm of Gray and Markel, "Distance measures for speech processing", IEEE Trans. ASSP
    24(5), 1976). A gain of g dB is a distance of |g|.

    Windows of 2,048 samples (Hann) and hops of 512 at every sample rate, as work on bandwidth extension has them
    (Kuleshov et al., arXiv 1708.00853; NVSR, arXiv 2203.14941); such papers leave out the factor 10, so theirs is a
    tenth of this. Powers below 1e-8 count as 1e-8: digital silence and noise in the last of 16 bits are 8 to 12 dB
    apart; a floor near zero would make pauses the whole distance. In float64. ValueError for fewer than 1,025 samples.
    """
    _check(estimate, reference, longest_window=LSD_WINDOW)
    return _per_item(_log_spectral_distance, estimate.double(), reference.double())


@torch.no_grad()
def edge_error_ratio(estimate: Tensor, reference: Tensor, *, sample_rate: int, edge_seconds: float = 0.05) -> Tensor:
    """Error power in the first and last `edge_seconds` over the error power in between; 1 where it is even, and for
    equal signals. It shows clicks and missing context at the ends of a clip that was cut in mid-sound.

    ValueError if the two edges leave nothing in between.
    """
    _check(estimate, reference)
    edge = round(edge_seconds * sample_rate)
    T = estimate.shape[-1]
    if edge < 1 or 2 * edge >= T:
        raise ValueError(f"{T} samples at {sample_rate} Hz do not hold two edges of {edge_seconds} s and an interior")
    error = (estimate - reference).double().square()[:, 0]  # (B, T)
    edges = torch.cat([error[:, :edge], error[:, -edge:]], dim=1).mean(dim=1)
    tiny = 1e-20  # the square of -200 dBFS
    return ((edges + tiny) / (error[:, edge:-edge].mean(dim=1) + tiny)).float()


@lru_cache(maxsize=4)
def _mel(sample_rate: int) -> MultiScaleMel:
    return MultiScaleMel(sample_rate)


def _stft_distance(estimate: Tensor, reference: Tensor) -> Tensor:
    total = estimate.new_zeros(())
    for size in STFT_WINDOWS:
        window = torch.hann_window(size, device=estimate.device)
        one, other = (stft(audio, window).abs() for audio in (estimate, reference))  # (1, F, frames)
        powers = [2 * magnitude.clamp(min=STFT_FLOOR).log10() for magnitude in (one, other)]
        total += (one - other).abs().mean() + (powers[0] - powers[1]).abs().mean()
    return total


def _log_spectral_distance(estimate: Tensor, reference: Tensor) -> Tensor:
    window = torch.hann_window(LSD_WINDOW, dtype=estimate.dtype, device=estimate.device)
    spectra = (stft(audio, window) for audio in (estimate, reference))  # (1, F, frames)
    one, other = (10 * spectrum.abs().square().clamp(min=LSD_FLOOR).log10() for spectrum in spectra)
    return (one - other).square().mean(dim=1).sqrt().mean()


def _per_item(distance: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, reference: Tensor) -> Tensor:
    """A loss is a mean over its batch; on batches of one it is a metric."""
    values = [distance(one[None], other[None]) for one, other in zip(estimate, reference, strict=True)]
    return torch.stack(values).float() if values else torch.zeros(0, device=estimate.device)


def _check(estimate: Tensor, reference: Tensor, *, longest_window: int = 0) -> None:
    if estimate.ndim != 3 or estimate.shape[1] != 1 or estimate.shape != reference.shape:
        shapes = f"{tuple(estimate.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"estimate and reference have shapes {shapes}; both must be the same (batch, 1, samples)")
    if estimate.shape[-1] <= longest_window // 2:
        raise ValueError(
            f"{estimate.shape[-1]} samples are too short to compare spectra; {longest_window // 2 + 1} are needed"
        )
