"""VQAudioFeatureExtractor: recordings of any lengths -> input_values and padding_mask, as transformers has them."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType

from vqaudio.hf.config import VQAudioConfig
from vqaudio.io import AudioError
from vqaudio.source import checked_rate, open_source

Recording = np.ndarray | Tensor | Sequence[float]


class VQAudioFeatureExtractor(SequenceFeatureExtractor):
    """Mono recordings, each in its own length, become one rectangle and a mask that says what of it is audio."""

    model_input_names = ["input_values", "padding_mask"]  # noqa: RUF012  # transformers' own name and way

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        hop_length: int = 320,
        **kwargs: Any,
    ) -> None:
        """`sampling_rate` in Hz and `hop_length` in samples are the model's: `for_config` takes them from it."""
        if feature_size != 1:
            raise ValueError(f"feature_size is {feature_size}; it is 1, since recordings are mono")
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.hop_length = hop_length

    @classmethod
    def for_config(cls, config: VQAudioConfig) -> "VQAudioFeatureExtractor":
        """That of a model: `VQAudioFeatureExtractor.for_config(model.config)`."""
        return cls(sampling_rate=config.sampling_rate, hop_length=config.hop_length)

    def __call__(
        self,
        raw_audio: Recording | Sequence[Recording],
        padding: bool | str | PaddingStrategy = True,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | TensorType | None = None,
        sampling_rate: int | None = None,
        resample: bool = False,
    ) -> BatchFeature:
        """One recording, or a list of them -> input_values (B, 1, T) float32 and padding_mask (B, T), 1 where is audio.

        A recording is an array or tensor (T,) or (1, T), or a list of floats, nominally in [-1, 1]; int16, int32 and
        uint8 arrays are scaled as PCM. T is a multiple of the hop; `padding`, `truncation` and `max_length` (samples)
        as in transformers. `sampling_rate` in Hz has to be given, and to be the model's, unless `resample` is True:
        then recordings are resampled as `AudioTokenizer.encode` does it.

        AudioError, a ValueError, names the recording that is none, has several channels, or holds NaN or infinity.
        """
        if sampling_rate is None:
            raise ValueError(f"sampling_rate is missing: say at how many Hz the audio is (the model's: "
                             f"{self.sampling_rate}), since another rate would not be noticed")  # fmt: skip
        rate = checked_rate(sampling_rate)
        if rate != self.sampling_rate and not resample:
            raise ValueError(f"the audio is at {rate} Hz and the model at {self.sampling_rate} Hz; resample it, or say "
                             "resample=True")  # fmt: skip
        recordings = _listed(raw_audio)
        if not recordings:
            raise ValueError("there is no recording: the list is empty")
        padded = self.pad(
            BatchFeature({"input_values": [self._samples(each, rate, item) for item, each in enumerate(recordings)]}),
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            pad_to_multiple_of=self.hop_length,
            return_attention_mask=True,
        )
        found = {
            "input_values": [values[None] for values in padded["input_values"]],
            "padding_mask": list(padded["attention_mask"]),
        }
        return BatchFeature(found, tensor_type=return_tensors)

    def _samples(self, recording: Recording, rate: int, item: int) -> np.ndarray:
        """(T,) float32 at the model's rate."""
        try:
            if not isinstance(recording, np.ndarray | Tensor):
                recording = np.asarray(recording, np.float32)
            source = open_source(recording, rate, default_rate=rate)
            if source.channels != 1:
                raise AudioError(f"has {source.channels} channels; mix them, as by audio.mean(axis=0), or give a list")
            stop = source.num_samples_at(self.sampling_rate)
            pieces = source.at_rate(self.sampling_rate, start=0, stop=stop, mix=False, progress=None)
            return torch.cat(list(pieces), dim=1)[0].numpy()
        except (AudioError, TypeError, ValueError) as error:  # the latter two: of a list that is no list of floats
            raise AudioError(f"recording {item}: {error}") from error


def _listed(audio: Recording | Sequence[Recording]) -> list[Recording]:
    if isinstance(audio, np.ndarray | Tensor) or (len(audio) and isinstance(audio[0], Real)):
        return [audio]  # type: ignore[list-item]  # that is what has been found out
    return list(audio)  # type: ignore[arg-type]
