from vqaudio.losses.adversarial import (
    Game as Game,
    adversarial_loss as adversarial_loss,
    discriminator_loss as discriminator_loss,
    feature_matching as feature_matching,
)
from vqaudio.losses.reconstruction import (
    mu_law_cross_entropy as mu_law_cross_entropy,
    waveform_l1 as waveform_l1,
    waveform_mse as waveform_mse,
)
from vqaudio.losses.spectral import MultiResolutionSTFT as MultiResolutionSTFT, MultiScaleMel as MultiScaleMel
