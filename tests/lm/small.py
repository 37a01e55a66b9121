"""Small language models and codes for tests: random weights, of no tokenizer in particular."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vqaudio.layouts import Delay, Flat, Parallel, TokenSpace
from vqaudio.layouts.space import AnyLayout
from vqaudio.lm.config import LMConfig
from vqaudio.lm.model import LanguageModel

SMALL = LMConfig(width=16, num_layers=2, num_heads=2, hidden=24)
LAYOUTS: dict[str, type] = {"delay": Delay, "flat": Flat, "parallel": Parallel}
WINDOW = 16


def small_space(kind: str, sizes: Sequence[int]) -> TokenSpace:
    layout: AnyLayout = LAYOUTS[kind](codebook_sizes=tuple(sizes))
    return TokenSpace(token_fingerprint="0" * 64, sample_rate=1_600, hop_length=20, layout=layout)


def small_model(
    kind: str = "delay", sizes: Sequence[int] = (5, 7), *, window: int = WINDOW, seed: int = 0
) -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LanguageModel(SMALL, small_space(kind, sizes), window=window).eval()
        for parameter in model.parameters():  # bolder than a start, so that what is read makes a difference
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def random_codes(sizes: Sequence[int], num_frames: int, *, seed: int = 0) -> Tensor:
    """(K, N)"""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (num_frames,), generator=generator) for size in sizes])


def chained_codes(sizes: Sequence[int], num_frames: int, *, seed: int = 0) -> np.ndarray:
    """(K, N): each code mostly follows from the one before it, and from the lower one of its frame."""
    draw = np.random.default_rng(seed)
    codes = np.zeros((len(sizes), num_frames), dtype=np.int64)
    for n in range(num_frames):
        for k, size in enumerate(sizes):
            before = codes[k, n - 1] if n else 0
            below = codes[k - 1, n] if k else 1
            codes[k, n] = (before + below) % size if draw.random() < 0.9 else draw.integers(size)
    return codes
