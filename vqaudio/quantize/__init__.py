from vqaudio.quantize.base import (
    Quantized as Quantized,
    Quantizer as Quantizer,
    Reborn as Reborn,
    rotated as rotated,
    straight_through as straight_through,
)
from vqaudio.quantize.folded import FoldedQuantizer as FoldedQuantizer
from vqaudio.quantize.fsq import FSQConfig as FSQConfig, ScalarLevel as ScalarLevel
from vqaudio.quantize.residual import ResidualQuantizer as ResidualQuantizer, ResidualVQConfig as ResidualVQConfig
from vqaudio.quantize.ties import NEAR_TIE as NEAR_TIE, first_gaps as first_gaps
from vqaudio.quantize.usage import CodeUsage as CodeUsage
from vqaudio.quantize.vq import Codebook as Codebook, VectorQuantizer as VectorQuantizer, VQConfig as VQConfig

QuantizerConfig = VQConfig | ResidualVQConfig | FSQConfig
