"""AudioTokenizer: any audio file or array <-> Codes.

    file or array ─ blocks ─► mix down ─► resample ─► engine: codec ─► Codes
    audio ◄──────────────────────────── resample ◄─── engine: codec ◄─── Codes

Everything goes by blocks, so the length of a file costs no memory beyond its codes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import log2
from operator import index
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vqaudio import pretrained
from vqaudio.checkpoint import CARD_NAME, CONFIG_NAME, CheckpointError, ModelInfo, load_codec, save_codec
from vqaudio.codes import Codes, CodesError
from vqaudio.dsp import Resampler, mix_down, resampled_length
from vqaudio.engine import decode_blocks, encode_blocks, run_apart
from vqaudio.io import AudioError, inspect_audio, read_blocks
from vqaudio.models import Codec
from vqaudio.quantize.base import check_num_codebooks

AudioLike = str | Path | BinaryIO | np.ndarray | Tensor
Channels = Literal["mix", "keep"]

BLOCK_SAMPLES = 65536  # of a source, read at a time
EMBED_FRAMES = 4096  # at a time: K codebooks of them are looked up before they are added
MOST_CHANNELS = 64  # of an array; one with more is (T, C) by mistake

# What integer samples are worth: value · scale + offset lies in [-1, 1).
PCM_SCALES = {"int16": (2.0**-15, 0.0), "int32": (2.0**-31, 0.0), "uint8": (2.0**-7, -1.0)}
FLOATS = ("float16", "bfloat16", "float32", "float64")


class AudioTokenizer:
    """A trained codec as a tokenizer. It holds no state: threads may share one, and it survives pickle and fork."""

    def __init__(self, codec: Codec, info: ModelInfo, *, card: str = "") -> None:
        """`codec` and `info` belong together as `load_codec` returned them; `from_pretrained` is the usual way."""
        self.codec = codec
        self.info = info
        self.card = card

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, device: str | torch.device = "cpu") -> "AudioTokenizer":
        """A shipped model by name (`speech-16k`, or with its version) or a model folder; never the network.

        CheckpointError for a name that does not ship, or a folder that is damaged or no model.
        """
        folder = find_model(name_or_folder)
        codec, info = load_codec(folder)
        try:
            codec.to(device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a PyTorch built without that device
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(f"device {str(device)!r} cannot be used ({reason})") from error
        card = folder / CARD_NAME
        return cls(codec, info, card=card.read_text(encoding="utf-8") if card.is_file() else "")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as a folder with the same fingerprints; what is there is replaced only if it is a model."""
        # Weights that were stored as float16 are all still float16 numbers, and fingerprints hash what is stored.
        about, name = self.info.about, self.info.name
        if all(torch.equal(tensor, tensor.half().float()) for tensor in self.codec.state_dict().values()):
            info = save_codec(self.codec, folder, name=name, about=about, card=self.card, storage="float16")
            if info.model_fingerprint == self.info.model_fingerprint:
                return
        save_codec(self.codec, folder, name=name, about=about, card=self.card, storage="float32")

    # ---- facts

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.codec.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.codec.hop_length

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return self.codec.frame_rate

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.codec.codebook_sizes

    @property
    def num_codebooks(self) -> int:
        return len(self.codebook_sizes)

    @property
    def token_fingerprint(self) -> str:
        """SHA-256, in hex, of what gives the codes their meaning."""
        return self.info.token_fingerprint

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device

    def frames_for(self, num_samples: int) -> int:
        """N = ⌈T / hop⌉, T at the model's rate."""
        return self.codec.frames_for(num_samples)

    def samples_for(self, num_frames: int) -> int:
        """The most samples that N frames can stand for, at the model's rate."""
        return self.codec.samples_for(num_frames)

    def bitrates(self) -> dict[int, float]:
        """Bits per second of one channel for each number of codebooks from 1."""
        bits = accumulate(log2(size) for size in self.codebook_sizes)
        return {number: float(self.frame_rate) * total for number, total in enumerate(bits, start=1)}

    def __repr__(self) -> str:
        rates = f"{self.sample_rate} Hz, {float(self.frame_rate):g} frames per second"
        return f"<AudioTokenizer {self.info.name}: {rates}, {self.num_codebooks} codebooks, on {self.device}>"

    # ---- audio -> codes

    def encode(
        self,
        audio: AudioLike,
        sample_rate: int | None = None,
        *,
        num_codebooks: int | None = None,
        channels: Channels = "mix",
        progress: Callable[[float], None] | None = None,
    ) -> Codes:
        """A path, a seekable binary file, or an array (T,) or (C, T) -> Codes.

        `sample_rate` is that of an array (None: the model's own); a file knows its own. Floats are nominally in
        [-1, 1]; int16, int32 and uint8 arrays are scaled as PCM. `num_codebooks` takes the first ones only, and
        `channels` mixes all channels into one or keeps each as its own channel of codes. `progress` is told, after
        every block read, which part of the source that was up to, 0 to 1.

        AudioError, a ValueError, for what is no audio, is truncated, or holds NaN or infinity.
        """
        num_codebooks = check_num_codebooks(num_codebooks, self.num_codebooks)
        if channels not in get_args(Channels):
            raise ValueError(f"channels is {channels!r}; expected one of {', '.join(get_args(Channels))}")
        source = _open(audio, sample_rate, default_rate=self.sample_rate)
        pieces = self._prepared(source, mix=channels == "mix", progress=progress)
        blocks = list(encode_blocks(self.codec, pieces, num_codebooks=num_codebooks))
        start = torch.zeros(1 if channels == "mix" else source.channels, num_codebooks, 0, dtype=torch.int64)
        return Codes(
            torch.cat([start, *blocks], dim=-1),
            codebook_sizes=self.codebook_sizes[:num_codebooks],
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            num_samples=resampled_length(source.num_samples, source.sample_rate, self.sample_rate),
            source_sample_rate=source.sample_rate,
            source_num_samples=source.num_samples,
            token_fingerprint=self.token_fingerprint,
        )

    def encode_batch(
        self,
        audios: Sequence[AudioLike],
        sample_rate: int | None = None,
        *,
        num_codebooks: int | None = None,
        channels: Channels = "mix",
    ) -> list[Codes]:
        """`encode` of each; one item's codes never depend on the others."""
        return [self.encode(audio, sample_rate, num_codebooks=num_codebooks, channels=channels) for audio in audios]

    def _prepared(self, source: "_Source", *, mix: bool, progress: Callable[[float], None] | None) -> Iterator[Tensor]:
        """The source's blocks (C, T) -> pieces (1 or C, t) at the model's rate."""
        resampler = Resampler(source.sample_rate, self.sample_rate)
        num_read = 0
        for block in source.blocks:
            yield resampler.push(mix_down(block) if mix else block)
            num_read += block.shape[-1]
            if progress is not None:
                progress(num_read / max(1, source.num_samples))
        yield resampler.finish()

    # ---- codes -> audio

    def decode(self, codes: Codes, *, sample_rate: int | Literal["source"] | None = None) -> Tensor:
        """Codes -> audio (C, T) float32 on the CPU, at the model's rate (None), the source's, or any in Hz.

        T is `codes.num_samples` at the model's rate, exactly `codes.source_num_samples` at the source's, and
        ⌈source duration · rate⌉ at others. CodesError if the codes are another tokenizer's.
        """
        blocks = self.decode_blocks(codes, sample_rate=sample_rate)
        return torch.cat([torch.zeros(codes.channels, 0, dtype=torch.float32), *blocks], dim=-1)

    def decode_batch(
        self, codes: Sequence[Codes], *, sample_rate: int | Literal["source"] | None = None
    ) -> list[Tensor]:
        """`decode` of each."""
        return [self.decode(each, sample_rate=sample_rate) for each in codes]

    def decode_blocks(self, codes: Codes, *, sample_rate: int | Literal["source"] | None = None) -> Iterator[Tensor]:
        """`decode` as blocks (C, t), so that audio of any length can be written as it comes."""
        self._check(codes)
        return self._decoded(codes, self.output_rate(codes, sample_rate))

    def output_rate(self, codes: Codes, sample_rate: int | Literal["source"] | None) -> int:
        """The rate in Hz that `decode` gives with this `sample_rate`."""
        if sample_rate is None:
            return self.sample_rate
        if isinstance(sample_rate, str):
            if sample_rate != "source":
                raise AudioError(f"sample_rate is {sample_rate!r}; wanted is a number of Hz, 'source' or None")
            return codes.source_sample_rate
        return _checked_rate(sample_rate)

    def _decoded(self, codes: Codes, rate: int) -> Iterator[Tensor]:
        blocks = decode_blocks(self.codec, [codes.values], num_samples=codes.num_samples)
        if rate == self.sample_rate:
            yield from blocks
            return
        remaining = resampled_length(codes.source_num_samples, codes.source_sample_rate, rate)
        for block in self._resampled(codes, blocks, rate):
            if stop := min(remaining, block.shape[-1]):
                yield block[:, :stop]
            remaining -= stop
        assert remaining == 0

    def _resampled(self, codes: Codes, blocks: Iterator[Tensor], rate: int) -> Iterator[Tensor]:
        resampler = Resampler(self.sample_rate, rate)
        for block in blocks:
            yield resampler.push(block)
        # A slice of a recording may end up to a sample before its piece of the source does.
        whole = resampled_length(codes.source_num_samples, codes.source_sample_rate, self.sample_rate)
        yield resampler.push(torch.zeros(codes.channels, max(0, whole - codes.num_samples), dtype=torch.float32))
        yield resampler.finish()

    def _check(self, codes: Codes) -> None:
        if not isinstance(codes, Codes):
            raise CodesError(f"codes are a {type(codes).__name__}; wanted vqaudio.Codes, as encode and Codes.load give")
        if codes.token_fingerprint != self.token_fingerprint:
            theirs, ours = codes.token_fingerprint[:12], self.token_fingerprint[:12]
            raise CodesError(
                f"codes of another tokenizer (token fingerprint {theirs}…); {self.info.name} reads its own ({ours}…)"
            )
        facts: dict[str, tuple[object, object]] = {
            "codebook_sizes": (codes.codebook_sizes, self.codebook_sizes[: codes.num_codebooks]),
            "sample_rate": (codes.sample_rate, self.sample_rate),
            "hop_length": (codes.hop_length, self.hop_length),
        }
        for name, (given, wanted) in facts.items():
            if given != wanted:
                raise CodesError(f"the codes have {name} {given}; {self.info.name} has {wanted}")

    # ---- codes -> vectors

    def embed(self, codes: Codes) -> Tensor:
        """The latents that codes stand for, (C, D, N) float32: the sum of their rows in `codebook(k)`."""
        self._check(codes)
        parts = codes.values.to(self.device).split(EMBED_FRAMES, dim=-1)
        decode = self.codec.quantizer.decode
        return run_apart(lambda: torch.cat([decode(part) for part in parts], dim=-1), self.device).cpu()

    def codebook(self, level: int) -> Tensor:
        """What the codes of codebook 0 ≤ `level` < K stand for in the latent space, (V, D) float32."""
        if not 0 <= level < self.num_codebooks:
            raise ValueError(f"there is no codebook {level}; this tokenizer has 0 to {self.num_codebooks - 1}")
        return run_apart(lambda: self.codec.quantizer.codebook(level), self.device).cpu()


# ---- models by name


def shipped_models() -> dict[str, Path]:
    """Name -> folder of each model in the package, versions in order, and of the alias without version."""
    found = {}
    for folder in Path(pretrained.__file__).parent.iterdir():
        match = re.fullmatch(r"(.+)-v(\d+)", folder.name)
        if match and (folder / CONFIG_NAME).is_file():
            found[match[1], int(match[2])] = folder
    models = {}
    for (alias, _), folder in sorted(found.items()):
        models[folder.name] = folder
        models[alias] = folder  # the last of its versions stays
    return models


def find_model(name_or_folder: str | Path) -> Path:
    """The folder of a shipped model or the folder given; a name that ships comes before a folder of that name."""
    models = shipped_models()
    if isinstance(name_or_folder, str) and name_or_folder in models:
        return models[name_or_folder]
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    known = ", ".join(sorted(models)) or "none"
    raise CheckpointError(f"{name_or_folder}: neither a folder nor a model that ships with vqaudio ({known})")


# ---- any audio as blocks


@dataclass(frozen=True)
class _Source:
    sample_rate: int
    num_samples: int  # per channel
    channels: int
    blocks: Iterator[Tensor]  # (C, T) float32, finite


def _open(audio: AudioLike, sample_rate: int | None, *, default_rate: int) -> _Source:
    given = None if sample_rate is None else _checked_rate(sample_rate)
    if isinstance(audio, np.ndarray | Tensor):
        return _open_array(audio, default_rate if given is None else given)
    if not isinstance(audio, str | Path) and not hasattr(audio, "read"):
        kinds = "a path, a binary file object, a numpy array or a torch tensor"
        raise AudioError(f"audio is a {type(audio).__name__}; wanted is {kinds}")
    info = inspect_audio(audio)
    if given not in (None, info.sample_rate):
        raise AudioError(f"{info.name}: is at {info.sample_rate} Hz, not {given}; a file's rate need not be given")
    return _Source(info.sample_rate, info.num_samples, info.channels, read_blocks(audio, block_samples=BLOCK_SAMPLES))


def _open_array(audio: np.ndarray | Tensor, sample_rate: int) -> _Source:
    dtype = audio.dtype.name if isinstance(audio, np.ndarray) else str(audio.dtype).removeprefix("torch.")
    if dtype not in FLOATS and dtype not in PCM_SCALES:
        wanted = f"floats in [-1, 1], or PCM as {', '.join(PCM_SCALES)}"
        raise AudioError(f"the audio array is {dtype}; wanted are {wanted}")
    if audio.ndim not in (1, 2):
        raise AudioError(f"the audio array has shape {tuple(audio.shape)}; wanted is (T,) or (C, T), one recording")
    rows = audio[None] if audio.ndim == 1 else audio
    if len(rows) == 0:
        raise AudioError(f"the audio array has shape {tuple(audio.shape)}, no channels; wanted is (T,) or (C, T)")
    if len(rows) > MOST_CHANNELS:
        raise AudioError(
            f"the audio array has shape {tuple(audio.shape)}, {len(rows)} channels; wanted is (C, T): transpose it?"
        )
    return _Source(sample_rate, rows.shape[1], len(rows), _array_blocks(rows, *PCM_SCALES.get(dtype, (1.0, 0.0))))


def _array_blocks(rows: np.ndarray | Tensor, scale: float, offset: float) -> Iterator[Tensor]:
    for start in range(0, rows.shape[1], BLOCK_SAMPLES):
        part = rows[:, start : start + BLOCK_SAMPLES]
        if isinstance(part, Tensor):
            block = part.detach().to("cpu", torch.float32)
        else:
            with np.errstate(over="ignore"):  # becomes infinite, which is refused below
                block = torch.from_numpy(part.astype(np.float32, order="C"))
        if (scale, offset) != (1.0, 0.0):
            block = block * scale + offset
        wrong = (~block.isfinite()).nonzero()
        if len(wrong):
            channel, sample = wrong[0].tolist()
            value = float(rows[channel, start + sample])
            raise AudioError(
                f"the audio array: sample {start + sample} of channel {channel} is {value}, not a finite float32"
            )
        yield block


def _checked_rate(sample_rate: object) -> int:
    try:
        rate = index(sample_rate)  # type: ignore[arg-type]  # that is what is being found out
    except TypeError:
        rate = 0
    if rate < 1 or isinstance(sample_rate, bool):
        raise AudioError(f"sample_rate is {sample_rate!r}; it must be a positive integer number of Hz")
    return rate
