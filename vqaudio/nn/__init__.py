from vqaudio.nn.activation import (
    ChannelNorm as ChannelNorm,
    LevelCompressor as LevelCompressor,
    LevelExpander as LevelExpander,
    Snake as Snake,
    at_least_float32 as at_least_float32,
)
from vqaudio.nn.conv import (
    CausalConv1d as CausalConv1d,
    CausalConvTranspose1d as CausalConvTranspose1d,
    Stream as Stream,
    name_streams as name_streams,
)
from vqaudio.nn.program import Program as Program, UnreadableError as UnreadableError
