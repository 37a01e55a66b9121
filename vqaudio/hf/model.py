"""VQAudioModel: a codec in the shape of transformers' audio tokenizers, and what it does is what `AudioTokenizer` does.

                     T = 7, hop 4                     N = 2
    input_values     x x x x x x x   audio_codes      a b     audio_values   y y y y y y y
    (B, 1, T)        x x x 0 0 0 0   (B, K, N)        c -     (B, 1, T)      y y y 0 0 0 0
    padding_mask     1 1 1 1 1 1 1   audio_codes_mask 1 1
    (B, T)           1 1 1 0 0 0 0   (B, N)           1 0

Each item is coded by itself, as long as its mask says, by the engine: so its codes are those that `AudioTokenizer`
gives, whatever the neighbours, and on the CPU to the bit. `-` is PADDING, which is no code: whoever looks it up finds
out. Codes are chosen in float32; other dtypes are not taken on (see `VQAudioModel`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.utils import ModelOutput

from vqaudio.checkpoint import CheckpointError, ModelInfo, fingerprints, stored_tensors
from vqaudio.codes import Codes, CodesError
from vqaudio.config import to_dict
from vqaudio.hf.config import VQAudioConfig
from vqaudio.hf.masks import PADDING, audio_rows, audio_spans, frame_counts
from vqaudio.models import Codec, CodecConfig
from vqaudio.quantize import Codebook
from vqaudio.tokenizer import AudioTokenizer

UNNAMED = "0" * 64  # the fingerprint of codes on their way through, which nobody compares


@dataclass
class VQAudioEncoderOutput(ModelOutput):
    """Codes (B, K, N) int64, PADDING after the end of an item, and where they are codes: (B, N) bool."""

    audio_codes: Tensor | None = None
    audio_codes_mask: Tensor | None = None


@dataclass
class VQAudioDecoderOutput(ModelOutput):
    """Audio (B, 1, T) float32, zero where the mask (B, T) bool is False."""

    audio_values: Tensor | None = None
    padding_mask: Tensor | None = None


@dataclass
class VQAudioOutput(ModelOutput):
    """Both: what was decoded, as long as what came in, and the codes in between."""

    audio_values: Tensor | None = None
    audio_codes: Tensor | None = None
    audio_codes_mask: Tensor | None = None


class VQAudioModel(PreTrainedAudioTokenizerBase):
    """`from_vqaudio("speech-16k")` for a model of vqaudio, `from_pretrained(folder)` for what `save_pretrained` wrote.

    The codec stays float32 whatever is asked for: `dtype=` and `torch_dtype=` in `from_pretrained`, `.half()`,
    `.bfloat16()`, `.to(dtype)`, and the dtype of a larger model around it. In 16 bits it would give other codes. It
    is for inference: it has no gradients, and `.train()` changes nothing.
    """

    config_class = VQAudioConfig
    config: VQAudioConfig
    base_model_prefix = "vqaudio"
    main_input_name = "input_values"
    input_modalities = "audio"
    _keep_in_fp32_modules_strict = {"codec"}  # noqa: RUF012  # transformers' own name and way
    _keys_to_ignore_on_load_missing = {r"\.ema_(counts|sums)$"}  # noqa: RUF012  # of training alone; not in the file

    def __init__(self, config: VQAudioConfig) -> None:
        """A codec with random weights."""
        super().__init__(config)
        self.codec = _built(config.codec_config)
        # In no file, so that transformers calls `_init_weights` for this module whatever has been loaded.
        self.register_buffer("unsaved", torch.zeros(()), persistent=False)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """What transformers calls for modules of which a file did not give all: here for this one, always.

        It loads weights as tensors in the place of those there were, without their layout in memory, on which bits and
        speed depend, and leaves undefined what is not in the file and follows from the config, such as filters. So the
        codec is built anew, and takes from the old one what was loaded: those tensors are marked.
        """
        if module is self:
            codec = _built(self.config.codec_config)
            state = self.codec.state_dict(keep_vars=True)
            loaded = {name: tensor for name, tensor in state.items() if getattr(tensor, "_is_hf_initialized", False)}
            codec.load_state_dict(loaded, strict=False)
            self.codec = codec.to(next(self.codec.parameters()).device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "VQAudioModel":
        """What `.to`, `.half` and the like do to every tensor, also from a model around this one: devices only."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return cast(VQAudioModel, super()._apply(moved, recurse))

    # ---- there and back: folders, and vqaudio

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the rest of the long list goes through as it is
        cls, pretrained_model_name_or_path: str | PathLike[str], *model_args: Any, **kwargs: Any
    ) -> "VQAudioModel":
        """A folder of `save_pretrained`, as transformers loads it; in float32, whatever `dtype` says.

        CheckpointError if the weights are not those that the fingerprints in config.json are about.
        """
        kwargs.pop("torch_dtype", None)
        kwargs["dtype"] = torch.float32
        with torch.random.fork_rng(devices=[]):  # building draws weights that are replaced; leave no trace of them
            loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for module in model.codec.modules():
            if isinstance(module, Codebook):
                module.reset_statistics()
        model.codec.requires_grad_(False)
        model._check_fingerprints(str(pretrained_model_name_or_path))
        return loaded

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """As transformers saves a model: config.json and model.safetensors, the latter in its `storage`, 16 or 32 bits.

        The fingerprints in the config are made anew, so that they are those of what is written.
        """
        if kwargs.pop("state_dict", None) is not None:
            raise ValueError("a vqaudio model saves its own weights: without `state_dict`")
        info, tensors = self._described()
        for field in ("token_fingerprint", "model_fingerprint", "storage"):
            setattr(self.config, field, getattr(info, field))
        state = {f"codec.{name}": tensor for name, tensor in tensors.items()}
        super().save_pretrained(save_directory, state_dict=state, **kwargs)

    @classmethod
    def from_vqaudio(cls, model: str | Path | AudioTokenizer, *, device: str | torch.device = "cpu") -> "VQAudioModel":
        """A shipped model by its name, a folder of vqaudio, or a tokenizer; see `AudioTokenizer.from_pretrained`."""
        tokenizer = model if isinstance(model, AudioTokenizer) else AudioTokenizer.from_pretrained(model)
        info = tokenizer.info
        config = VQAudioConfig(
            codec=to_dict(tokenizer.codec.config),
            name=info.name,
            token_fingerprint=info.token_fingerprint,
            model_fingerprint=info.model_fingerprint,
            storage=info.storage,
            about=info.about,
            card=tokenizer.card,
        )
        with torch.random.fork_rng(devices=[]):
            made = cls(config)
        made.codec.load_state_dict(tokenizer.codec.state_dict())
        made.codec.requires_grad_(False)
        return cast(VQAudioModel, made._apply(lambda tensor: tensor.to(device)).eval())

    def to_vqaudio(self) -> AudioTokenizer:
        """The same codec as an `AudioTokenizer`, under the fingerprints of the weights that it has now."""
        return AudioTokenizer(self.codec, self._described()[0], card=self.config.card)

    def _described(self) -> tuple[ModelInfo, dict[str, Tensor]]:
        """What the codec is, and what its file holds."""
        storage: Literal["float16", "float32"] = "float32"
        if self.config.storage == "float16":  # true of the weights that were loaded; but they may have changed
            state = self.codec.state_dict().values()
            storage = "float16" if all(torch.equal(tensor, tensor.half().float()) for tensor in state) else "float32"
        tensors = stored_tensors(self.codec, storage)
        token, model = fingerprints(self.config.codec, tensors, self.codec.hop_length)
        return ModelInfo(self.config.name, token, model, self.config.about, storage), tensors

    def _check_fingerprints(self, place: str) -> None:
        info, said = self._described()[0], self.config
        for field in ("token_fingerprint", "model_fingerprint"):
            if getattr(said, field) not in (None, getattr(info, field)):
                raise CheckpointError(f"{place}: weights or codec do not match the {field.replace('_', ' ')} in "
                                      "config.json; the model was altered, or not all of it was loaded")  # fmt: skip

    # ---- audio -> codes -> audio

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_codebooks: int | None = None,
        return_dict: bool | None = None,
    ) -> VQAudioEncoderOutput | tuple[Tensor, ...]:
        """Audio (B, 1, T) or (B, T) at the model's rate -> codes (B, K, N), on the device that the audio is on.

        `padding_mask` (B, T), of ones where there is audio, may have zeros before and after it; without one all is
        audio. `num_codebooks` takes the first ones only. AudioError for NaN or infinity.
        """
        output = self._encoded(audio_rows(input_values), padding_mask, num_codebooks)
        return output if self._as_dict(return_dict) else output.to_tuple()

    def decode(
        self,
        audio_codes: Tensor,
        audio_codes_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> VQAudioDecoderOutput | tuple[Tensor, ...]:
        """Codes (B, k, N), of any number of codebooks -> audio (B, 1, T), on the device that the codes are on.

        Of each item the frames of `audio_codes_mask` (B, N), else those before its PADDING. With the `padding_mask` of
        the audio that was encoded, audio comes where it was, exactly; without, in whole frames from the start.
        CodesError names the item and what is wrong with it: codes out of range, or lengths that do not fit.
        """
        output = self._decoded(audio_codes, audio_codes_mask, padding_mask)
        return output if self._as_dict(return_dict) else output.to_tuple()

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_codebooks: int | None = None,
        return_dict: bool | None = None,
    ) -> VQAudioOutput | tuple[Tensor, ...]:
        """`encode` and `decode`: audio (B, 1, T) as long as it came in, and its codes."""
        rows = audio_rows(input_values)
        if padding_mask is None:
            padding_mask = torch.ones(rows.shape, dtype=torch.bool)
        encoded = self._encoded(rows, padding_mask, num_codebooks)
        audio_codes, mask = encoded.to_tuple()
        output = VQAudioOutput(self._decoded(audio_codes, mask, padding_mask).audio_values, audio_codes, mask)
        return output if self._as_dict(return_dict) else output.to_tuple()

    def _encoded(self, rows: Tensor, padding_mask: Tensor | None, num_codebooks: int | None) -> VQAudioEncoderOutput:
        """(B, T) -> codes (B, K, N)."""
        spans = audio_spans(padding_mask, rows)
        audios = [row[start:stop] for row, (start, stop) in zip(rows, spans, strict=True)]
        found = self._tokenizer().encode_batch(audios, num_codebooks=num_codebooks)
        K = len(self.codec.codebook_sizes) if num_codebooks is None else num_codebooks
        N = max((codes.num_frames for codes in found), default=0)
        audio_codes = torch.full((len(found), K, N), PADDING)
        mask = torch.zeros(len(found), N, dtype=torch.bool)
        for item, codes in enumerate(found):
            audio_codes[item, :, : codes.num_frames] = codes.values[0]
            mask[item, : codes.num_frames] = True
        return VQAudioEncoderOutput(audio_codes.to(rows.device), mask.to(rows.device))

    def _decoded(self, audio_codes: Tensor, mask: Tensor | None, padding_mask: Tensor | None) -> VQAudioDecoderOutput:
        if audio_codes.ndim != 3:
            raise ValueError(f"audio_codes have shape {tuple(audio_codes.shape)}; wanted is (batch, codebooks, frames)")
        counts = frame_counts(audio_codes, mask)
        if padding_mask is None:
            spans = [(0, self.codec.samples_for(count)) for count in counts]
            T = max((stop for _, stop in spans), default=0)
        else:
            spans, T = audio_spans(padding_mask, audio_codes), padding_mask.shape[-1]
        values = audio_codes.detach().to("cpu", torch.int64)
        codes = [self._codes(values, item, counts[item], stop - start) for item, (start, stop) in enumerate(spans)]
        audio = torch.zeros(len(spans), 1, T)
        there = torch.zeros(len(spans), T, dtype=torch.bool)
        for item, decoded in enumerate(self._tokenizer().decode_batch(codes)):
            audio[item, :, slice(*spans[item])] = decoded
            there[item, slice(*spans[item])] = True
        return VQAudioDecoderOutput(audio.to(audio_codes.device), there.to(audio_codes.device))

    def _tokenizer(self) -> AudioTokenizer:
        """The codec under the fingerprint that the config says, without making it anew."""
        if any(parameter.dtype != torch.float32 for parameter in self.codec.parameters()):
            raise ValueError("the codec is not float32 any more, and would give other codes; load the model again")
        said = self.config.token_fingerprint or UNNAMED
        return AudioTokenizer(self.codec, ModelInfo(self.config.name, said, UNNAMED, {}, "float32"))

    def _codes(self, values: Tensor, item: int, num_frames: int, num_samples: int) -> Codes:
        """One item of codes (B, k, N) on the CPU."""
        k, rate = values.shape[1], self.codec.sample_rate
        try:
            if not 1 <= k <= len(self.codec.codebook_sizes):
                raise CodesError(f"there are codes of {k} codebooks, and 1 to {len(self.codec.codebook_sizes)} decode")
            return Codes(
                values[item : item + 1, :, :num_frames].contiguous(),
                codebook_sizes=self.codec.codebook_sizes[:k],
                sample_rate=rate,
                hop_length=self.codec.hop_length,
                num_samples=num_samples,
                source_sample_rate=rate,
                source_num_samples=num_samples,
                token_fingerprint=self.config.token_fingerprint or UNNAMED,
            )
        except CodesError as error:
            raise CodesError(f"item {item} of audio_codes: {error}") from error

    def _as_dict(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict if return_dict is None else return_dict)


def _built(config: CodecConfig) -> Codec:
    """A codec with random weights, in float32 on the CPU: transformers would have it on no device, in any dtype."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            return config.build().eval()
    finally:
        torch.set_default_dtype(default)
