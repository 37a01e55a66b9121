from vqaudio.models.codec import Codec as Codec, CodecConfig as CodecConfig, CodecOutput as CodecOutput
from vqaudio.models.istft import ISTFTDecoder as ISTFTDecoder, ISTFTDecoderConfig as ISTFTDecoderConfig
from vqaudio.models.presets import PRESETS as PRESETS
from vqaudio.models.seanet import (
    SeanetDecoder as SeanetDecoder,
    SeanetDecoderConfig as SeanetDecoderConfig,
    SeanetEncoder as SeanetEncoder,
    SeanetEncoderConfig as SeanetEncoderConfig,
)
from vqaudio.models.spectral import HybridEncoder as HybridEncoder, HybridEncoderConfig as HybridEncoderConfig
from vqaudio.models.vqvae import (
    PlainDecoder as PlainDecoder,
    PlainDecoderConfig as PlainDecoderConfig,
    PlainEncoder as PlainEncoder,
    PlainEncoderConfig as PlainEncoderConfig,
)
