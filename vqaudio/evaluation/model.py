"""A tokenizer as a system: its points are prefixes of its codebooks."""

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from vqaudio.evaluation.systems import Decoded, Point, Reconstruction
from vqaudio.shipped import shipped_models
from vqaudio.tokenizer import AudioTokenizer


@dataclass(frozen=True)
class ModelSystem:
    """A shipped model by its name, or a model folder. Loaded once in each process that uses it."""

    model: str
    codebooks: tuple[int, ...] = ()  # numbers of codebooks to decode with; none: 1, 2, 4, … and all
    kind: Literal["model"] = field(default="model", init=False)

    def __post_init__(self) -> None:
        total = self.tokenizer.num_codebooks
        for number in self.codebooks:
            if not 1 <= number <= total:
                raise ValueError(f"{self.model}: {number} codebooks were asked for, and it has {total}")

    @property
    def tokenizer(self) -> AudioTokenizer:
        return _loaded(self.model)

    @property
    def name(self) -> str:
        """Of a shipped model with its version, which `info.name` does not have."""
        shipped = shipped_models()
        return shipped[self.model].name if self.model in shipped else self.tokenizer.info.name

    @property
    def label(self) -> str:
        return self.name

    @property
    def points(self) -> tuple[Point, ...]:
        numbers = self.codebooks or numbers_of_codebooks(self.tokenizer.num_codebooks)
        return tuple(
            Point(
                name=f"{self.name}@{number}",
                label=f"{number} codebook{'s' * (number > 1)}",
                codebooks=number,
            )
            for number in sorted(set(numbers))
        )

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        tokenizer = self.tokenizer
        return {
            "model_fingerprint": tokenizer.info.model_fingerprint,
            "token_fingerprint": tokenizer.info.token_fingerprint,
            "sample_rate": tokenizer.sample_rate,
            "frame_rate": float(tokenizer.frame_rate),
            "codebook_sizes": list(tokenizer.codebook_sizes),
            "parameters": sum(parameter.numel() for parameter in tokenizer.codec.parameters()),
        }

    @torch.inference_mode()
    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        """Coded once; each point decodes a prefix of the same codes, to the model's own rate."""
        tokenizer = self.tokenizer
        began = time.perf_counter()
        codes = tokenizer.encode(audio, sample_rate)
        encode_seconds = time.perf_counter() - began
        decoded = []
        for point in self.points:
            assert point.codebooks is not None
            began = time.perf_counter()
            estimate = tokenizer.decode(codes.prefix(point.codebooks))
            decoded.append(
                Decoded(
                    point=point,
                    audio=estimate,
                    sample_rate=tokenizer.sample_rate,
                    num_bits=round(tokenizer.bitrates()[point.codebooks] * float(codes.seconds)),
                    encode_seconds=encode_seconds,
                    decode_seconds=time.perf_counter() - began,
                )
            )
        return Reconstruction(decoded=tuple(decoded), codes=codes.values[0].numpy())


def numbers_of_codebooks(total: int) -> tuple[int, ...]:
    """1, 2, 4, … and the total."""
    return tuple(sorted({2**power for power in range(total.bit_length()) if 2**power <= total} | {total}))


@lru_cache(maxsize=8)
def _loaded(model: str) -> AudioTokenizer:
    return AudioTokenizer.from_pretrained(model)
