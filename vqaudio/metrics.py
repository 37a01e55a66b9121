"""How far an estimate is from its reference: (estimate, reference), both (B, 1, T) -> one value per item, (B,).

Every item is measured by itself; its neighbours cannot change its value. `si_sdr` is better when higher, the distances
when lower. What needs libraries of its own (PESQ, STOI) is not here.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from vqaudio.losses.reconstruction import si_sdr as si_sdr
from vqaudio.losses.spectral import MultiResolutionSTFT, MultiScaleMel

STFT_WINDOWS = (512, 2048)  # samples; those of descript-audio-codec's evaluation


def mel_distance(estimate: Tensor, reference: Tensor, *, sample_rate: int) -> Tensor:
    """L1 distance of log10 mel spectra, *summed* over seven windows from 32 to 2,048 samples: the number that
    descript-audio-codec (arXiv 2306.06546, sec. 4.4) and its successors call mel distance. 0 for equal signals;
    1 is 20 / 7 dB per band and frame on average. It depends on `sample_rate` (Hz): compare at one rate only.

    ValueError for fewer than 1,025 samples, which the longest window cannot reflect at the edges.
    """
    _check(estimate, reference, longest_window=2048)
    measure = _mel(sample_rate).to(estimate.device)
    return len(measure.windows) * _per_item(measure, estimate, reference)


def stft_distance(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean difference in dB of the short-time magnitudes, over windows of 512 and 2,048 samples, at every frequency
    alike: the highest octave counts as much as all below it, where `mel_distance` gives it few bands.

    ValueError for fewer than 1,025 samples.
    """
    _check(estimate, reference, longest_window=max(STFT_WINDOWS))
    measure = _LogMagnitude().to(estimate.device)
    return 20.0 * _per_item(measure, estimate, reference)  # log10 of a magnitude is a twentieth of its dB


def edge_error_ratio(estimate: Tensor, reference: Tensor, *, sample_rate: int, edge_seconds: float = 0.05) -> Tensor:
    """Error power in the first and last `edge_seconds` over the error power in between; 1 where it is even, and for
    equal signals. It shows clicks and missing context at the ends of a clip that was cut in mid-sound.

    ValueError if the two edges leave nothing in between.
    """
    _check(estimate, reference, longest_window=0)
    edge = round(edge_seconds * sample_rate)
    T = estimate.shape[-1]
    if edge < 1 or 2 * edge >= T:
        raise ValueError(f"{T} samples at {sample_rate} Hz do not hold two edges of {edge_seconds} s and an interior")
    error = (estimate - reference).double().square()[:, 0]  # (B, T)
    edges = torch.cat([error[:, :edge], error[:, -edge:]], dim=1).mean(dim=1)
    tiny = 1e-20  # the square of -200 dBFS
    return ((edges + tiny) / (error[:, edge:-edge].mean(dim=1) + tiny)).float()


class _LogMagnitude(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectra = MultiResolutionSTFT(windows=STFT_WINDOWS)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        distance: Tensor = self.spectra(estimate, reference)["log_magnitude"]
        return distance


@lru_cache(maxsize=4)
def _mel(sample_rate: int) -> MultiScaleMel:
    return MultiScaleMel(sample_rate)


@torch.no_grad()
def _per_item(measure: nn.Module, estimate: Tensor, reference: Tensor) -> Tensor:
    """A loss is a mean over its batch; on batches of one it is a metric."""
    pairs = zip(estimate.float().split(1), reference.float().split(1), strict=True)
    values = [measure(one, other) for one, other in pairs]
    return torch.stack(values) if values else estimate.new_zeros(0)


def _check(estimate: Tensor, reference: Tensor, *, longest_window: int) -> None:
    if estimate.ndim != 3 or estimate.shape[1] != 1 or estimate.shape != reference.shape:
        shapes = f"{tuple(estimate.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"estimate and reference have shapes {shapes}; both must be the same (batch, 1, samples)")
    if estimate.shape[-1] <= longest_window // 2:
        raise ValueError(
            f"{estimate.shape[-1]} samples are too short to compare spectra; {longest_window // 2 + 1} are needed"
        )
