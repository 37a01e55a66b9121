"""µ-law companding (ITU-T G.711's curve, continuous form) between waveforms in [-1, 1] and 256 classes."""

import math

import torch
from torch import Tensor

NUM_CLASSES = 256
_MU = NUM_CLASSES - 1


def mu_law_encode(audio: Tensor) -> Tensor:
    """Any shape, float -> int64 classes 0 … 255; values beyond ±1 take the outermost classes."""
    compressed = audio.clamp(-1.0, 1.0)
    compressed = compressed.sign() * torch.log1p(_MU * compressed.abs()) / math.log1p(_MU)
    return ((compressed + 1.0) * 0.5 * _MU).round().to(torch.int64)


def mu_law_decode(classes: Tensor) -> Tensor:
    """Classes 0 … 255 -> float32 at the centre of each class."""
    compressed = classes.to(torch.float32) * (2.0 / _MU) - 1.0
    return compressed.sign() * torch.expm1(compressed.abs() * math.log1p(_MU)) / _MU
