"""VQAudioConfig: the config.json of a model folder of transformers. It holds what a folder of vqaudio says of itself.

config.json    model_type "vqaudio", codec {…} as in vqaudio's own config.json, name, both fingerprints, storage,
               about, card (the text of card.md), and what transformers adds to every config
"""

from dataclasses import field
from fractions import Fraction
from typing import Any

import torch
from transformers import PreTrainedConfig

from vqaudio.checkpoint import FORMAT
from vqaudio.config import from_dict, to_dict
from vqaudio.models import CodecConfig


class VQAudioConfig(PreTrainedConfig):
    """Without arguments: the architecture of `CodecConfig()`, and of no weights in particular."""

    model_type = "vqaudio"

    codec: dict[str, Any] = field(default_factory=dict)  # the tree of a CodecConfig; what is left out has its default
    name: str = "unnamed"
    token_fingerprint: str | None = None  # None: of weights that were never saved
    model_fingerprint: str | None = None
    storage: str = "float32"  # of the weights that the fingerprints are about, or float16
    about: dict[str, Any] = field(default_factory=dict)  # recipe, data with licences, steps, scores
    card: str = ""

    def __post_init__(self, **kwargs: Any) -> None:
        if kwargs.get("format") == FORMAT:
            raise ValueError("this is the config of a vqaudio model folder; load it by VQAudioModel.from_vqaudio")
        config = from_dict(CodecConfig, self.codec, path="codec")
        if self.token_fingerprint is None:  # else these are the words that the fingerprints hash
            self.codec = to_dict(config)
        if self.storage not in ("float16", "float32"):
            raise ValueError(f"storage is {self.storage!r}; it is float16 or float32")
        super().__post_init__(**kwargs)

    @property
    def codec_config(self) -> CodecConfig:
        return from_dict(CodecConfig, self.codec, path="codec")

    @property
    def sampling_rate(self) -> int:
        """Hz."""
        return self.codec_config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.codec_config.hop_length

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.sampling_rate, self.hop_length)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        with torch.device("meta"):  # no memory, no random numbers
            return self.codec_config.quantizer.build().codebook_sizes

    @property
    def num_codebooks(self) -> int:
        return len(self.codebook_sizes)

    @property
    def codebook_size(self) -> int:
        """Of the largest codebook."""
        return max(self.codebook_sizes)
