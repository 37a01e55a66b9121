from vqaudio.discriminators.base import Discriminators as Discriminators, Features as Features
from vqaudio.discriminators.period import (
    PeriodDiscriminator as PeriodDiscriminator,
    PeriodDiscriminatorConfig as PeriodDiscriminatorConfig,
)
from vqaudio.discriminators.stft import (
    STFTDiscriminator as STFTDiscriminator,
    STFTDiscriminatorConfig as STFTDiscriminatorConfig,
)
