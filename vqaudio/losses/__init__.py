from vqaudio.losses.reconstruction import (
    mu_law_cross_entropy as mu_law_cross_entropy,
    waveform_l1 as waveform_l1,
    waveform_mse as waveform_mse,
)
from vqaudio.losses.spectral import MultiResolutionSTFT as MultiResolutionSTFT, MultiScaleMel as MultiScaleMel
