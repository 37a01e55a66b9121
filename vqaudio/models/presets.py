"""Architectures by name, as the recipes of the shipped models use them.

`speech-16k`         the default of every config; encoder and decoder look 40 ms ahead
`speech-16k-live`    for live audio: the encoder looks at nothing to come, the decoder one frame (20 ms) ahead

Delay is configuration: a frame has to be complete before it is coded, and each frame of look-ahead comes on top. So
with blocks of one frame `speech-16k-live` gives codes after 20 ms and the sound 20 ms later, 40 ms in all, where
`speech-16k` takes 60 and another 40.
"""

from vqaudio.models.codec import CodecConfig
from vqaudio.models.istft import ISTFTDecoderConfig
from vqaudio.models.spectral import HybridEncoderConfig

PRESETS: dict[str, CodecConfig] = {
    "speech-16k": CodecConfig(),
    "speech-16k-live": CodecConfig(
        encoder=HybridEncoderConfig(overlap=3, look_ahead_frames=0),
        decoder=ISTFTDecoderConfig(overlap=3, look_ahead_frames=1),
    ),
}
