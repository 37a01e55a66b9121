"""vqaudio: audio to discrete codes and back, with tokenizers that ship inside the package.

    tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k")
    codes = tokenizer.encode("speech.wav")
    audio = tokenizer.decode(codes)
    vqaudio.write_audio("again.wav", audio, tokenizer.sample_rate)

One legend for every shape in this package:

    B batch    C channels    T samples    D latent width    N frames    K codebooks    V codes per codebook    L tokens

Audio is float32, (B, C, T) or (C, T), nominally in [-1, 1]. Codes are int64, (B, K, N) or (C, K, N). `hop_length` is
samples per frame, N = ⌈T / hop_length⌉, and `frame_rate` is frames per second, a Fraction.
"""

from vqaudio.checkpoint import (
    CheckpointError as CheckpointError,
    ModelInfo as ModelInfo,
    load_codec as load_codec,
    save_codec as save_codec,
)
from vqaudio.codes import Codes as Codes, CodesError as CodesError
from vqaudio.config import ConfigError as ConfigError
from vqaudio.dsp import resample as resample
from vqaudio.io import (
    AudioError as AudioError,
    AudioInfo as AudioInfo,
    inspect_audio as inspect_audio,
    read_audio as read_audio,
    write_audio as write_audio,
)
from vqaudio.layouts import TokenSpace as TokenSpace
from vqaudio.models import Codec as Codec, CodecConfig as CodecConfig
from vqaudio.session import (
    DecodingSession as DecodingSession,
    Session as Session,
    SessionError as SessionError,
    push_together as push_together,
)
from vqaudio.tokenizer import AudioTokenizer as AudioTokenizer

__version__ = "0.1.0"
