"""Short-time spectra as layers: how a decoder speaks in magnitudes and phases (as Vocos, arXiv 2306.00814, does).

A frame of the codec holds `spectra` spectra, `hop` samples apart, each of a window of `overlap` hops that begins with
the spectrum's own first sample. Side by side their channels are

    re 0 … re F-1  im 0 … im F-1 | re 0 … re F-1  im 0 … im F-1 | …        F = window / 2 + 1 bins

and a sum of windows is a transposed convolution whose kernel is known beforehand: one frame of the codec in, its
samples out, and as memory the last few frames. No overlap to add, and no state of another kind than everywhere else.

    frame       0         1         2         3
    samples     0 1 2 3   4 5 6 7   8 9 …                 (2 spectra in a frame, hop 2, overlap 3)
    spectrum 0  w w w w   w w
    spectrum 1      w w   w w w w
    spectrum 2            w w w w   w w
"""

import torch
from torch import Tensor, nn

from vqaudio.nn.activation import at_least_float32
from vqaudio.nn.conv import CausalConv1d, CausalConvTranspose1d, Stream
from vqaudio.nn.layer import Layer, Value

# Of the logarithm of a factor or magnitude. A sine at full scale in a Hann window of 640 samples has magnitude 160,
# e^5.1; Vocos clips at 100.
_LARGEST_LOG = 5.5
_FLOOR = 1e-4  # of a squared modulus: below, rounding would choose the direction of a phase


class ForwardSTFT(CausalConv1d):
    """Samples (B, 1, T) -> spectra (B, 2F, T / hop), re and im; each of the window that ends with its hop's samples.

    A convolution whose kernel is known beforehand, as that of `InverseSTFT`.
    """

    def __init__(self, *, hop: int, overlap: int) -> None:
        window = overlap * hop
        super().__init__(1, 2 * (window // 2 + 1), window, stride=hop, bias=False)
        z = torch.fft.rfft(torch.eye(window, dtype=torch.float64)) * analysis_window(hop, overlap)[:, None]
        weight = torch.cat([z.real, z.imag], dim=1)  # (window, 2F)
        del self.conv.weight
        self.conv.register_buffer("weight", weight.float()[:, None].permute(2, 1, 0), persistent=False)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a logarithm would see the noise of bfloat16
            return super().forward(x, stream)


class LogBands(Layer):
    """Spectra (B, 2F, N) -> (B, M + 2L, N): what the bands of a spectrum hold, and what its low bins look like.

    The first M are natural logarithms of band averages of the magnitude, by the rows of `bank` (M, F). The others are
    re and im of the `low` lowest bins, divided by their common level to the power of 3/4: a loud and a quiet voice have
    nearly the same, yet silence is still the smallest.
    """

    # Of a magnitude under a Hann window of 640 samples, where full scale is 160: -104 dBFS. 16 bits' noise lies above
    FLOOR = 1e-3

    def __init__(self, bank: Tensor, *, low: int) -> None:
        super().__init__()
        self.low, self.out_channels = low, len(bank) + 2 * low
        self.register_buffer("bank", bank / bank.sum(dim=1, keepdim=True).clamp(min=1e-12), persistent=False)
        self.bank: Tensor

    def forward(self, spectrum: Tensor) -> Tensor:
        with torch.autocast(spectrum.device.type, enabled=False):
            re, im = at_least_float32(spectrum).chunk(2, dim=1)  # (B, F, N)
            power = re.square() + im.square()
            bands = torch.einsum("mf,bfn->bmn", self.bank, (power + 1e-14).sqrt())
            level = power[:, : self.low].mean(dim=1, keepdim=True) + self.FLOOR**2
            low = torch.cat([re[:, : self.low], im[:, : self.low]], dim=1) * level.pow(-0.375)
            return torch.cat([(bands + self.FLOOR).log(), low], dim=1)


class Polar(Layer):
    """Logarithms (B, S · F, N) and complex numbers (B, S · 2F, N) -> complex numbers, of as many spectra S.

    The result is exp(logarithm) · z with `unit=False`, and exp(logarithm) · z / |z| with `unit=True`: then the
    logarithm is that of the magnitude, and z gives the phase alone. A phase as a direction has no jump at ±π to be
    learned around.
    """

    def __init__(self, *, spectra: int, bins: int, unit: bool) -> None:
        super().__init__()
        self.spectra, self.bins, self.unit = spectra, bins, unit
        self.out_channels = spectra * 2 * bins

    def __call__(self, logarithms: Tensor, spectrum: Tensor) -> Tensor:
        if isinstance(logarithms, Value):
            recorded: Tensor = logarithms.record(self, logarithms, spectrum)
            return recorded
        out: Tensor = nn.Module.__call__(self, logarithms, spectrum)
        return out

    def forward(self, logarithms: Tensor, spectrum: Tensor) -> Tensor:
        z = at_least_float32(spectrum).unflatten(1, (self.spectra, 2, self.bins))
        factors = at_least_float32(logarithms).clamp(max=_LARGEST_LOG).exp().unflatten(1, (self.spectra, 1, self.bins))
        if self.unit:
            factors = factors * (z.square().sum(dim=2, keepdim=True) + _FLOOR).rsqrt()
        return (factors * z).flatten(1, 3)


class InverseSTFT(CausalConvTranspose1d):
    """Spectra (B, spectra · 2F, N) -> samples (B, 1, N · spectra · hop), by windows that begin with their spectrum.

    Inverse to a transform under a periodic Hann window: spectra that are those of a signal give the signal, if all
    windows over a sample are there. Nothing of it is learned or stored.
    """

    def __init__(self, *, spectra: int, hop: int, overlap: int) -> None:
        window = overlap * hop
        bins = window // 2 + 1
        taps = -(-(spectra - 1 + overlap) // spectra)
        super().__init__(spectra * 2 * bins, 1, stride=spectra * hop, taps=taps, bias=False)
        kernel = torch.zeros(spectra, 2 * bins, taps * spectra * hop, dtype=torch.float64)
        frames = torch.eye(2 * bins, dtype=torch.float64)
        waves = torch.fft.irfft(torch.complex(frames[:, :bins], frames[:, bins:]), n=window)  # (2F, window)
        for spectrum in range(spectra):
            kernel[spectrum, :, spectrum * hop : spectrum * hop + window] = waves * synthesis_window(hop, overlap)
        # a frame `age` frames back is under tap `taps - 1 - age`, as the newest comes last
        weight = kernel.view(spectra * 2 * bins, taps, spectra * hop).flip(1).permute(1, 0, 2).contiguous()
        del self.conv.weight
        self.conv.register_buffer("weight", weight.float().permute(2, 1, 0), persistent=False)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a sum of waves in bfloat16 is noisy at -45 dB
            return super().forward(x, stream)


def analysis_window(hop: int, overlap: int) -> Tensor:
    """Periodic Hann, (overlap · hop,) float64."""
    return torch.hann_window(overlap * hop, dtype=torch.float64)


def synthesis_window(hop: int, overlap: int) -> Tensor:
    """What gives the signal back after `analysis_window`: over any sample the products of both sum to 1."""
    window = analysis_window(hop, overlap)
    return window / window.square().view(overlap, hop).sum(dim=0).repeat(overlap)
