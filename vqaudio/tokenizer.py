"""AudioTokenizer: any audio file or array <-> Codes.

    file or array ─ blocks ─► mix down ─► resample ─► engine: codec ─► Codes
    audio ◄──────────────────────────── resample ◄─── engine: codec ◄─── Codes

Everything goes by blocks, so the length of a file costs no memory beyond its codes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from itertools import accumulate
from math import inf, log2
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vqaudio.checkpoint import CARD_NAME, ModelInfo, load_codec, save_codec
from vqaudio.codes import Codes, CodesError, Lengths, frames_between, samples_between
from vqaudio.coding import coded_frames, decoded_samples
from vqaudio.device import usable
from vqaudio.dsp import resampled_length
from vqaudio.engine import BLOCK_FRAMES, Crew, Side, crew, run_apart, side_by_side
from vqaudio.io import AudioError
from vqaudio.models import Codec
from vqaudio.quantize.base import check_num_codebooks
from vqaudio.session import DecodingSession, Session, Settings, check_belongs, resumed
from vqaudio.shipped import find_model
from vqaudio.source import AudioLike, checked_rate, open_source

Channels = Literal["mix", "keep"]

EMBED_FRAMES = 4096  # at a time: K codebooks of them are looked up before they are added


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
        place = usable(device)
        codec, info = load_codec(folder)
        codec.to(place)
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
        start: float | Fraction = 0,
        end: float | Fraction | None = None,
        workers: int | Crew | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Codes:
        """A path, a seekable binary file, or an array (T,) or (C, T) -> Codes.

        `sample_rate` is that of an array (None: the model's own); a file knows its own. Floats are nominally in
        [-1, 1]; int16, int32 and uint8 arrays are scaled as PCM. `num_codebooks` takes the first ones only, and
        `channels` mixes all channels into one or keeps each as its own channel of codes.

        With `start` and `end`, in seconds, the result is `encode(audio).slice(start, end)`: the whole frames that cover
        the interval, with the codes they have in the whole. No more is read and computed than the interval and what
        its frames depend on (MP3, Ogg and Opus are read from their start, since they cannot be entered exactly).

        `workers` is how many threads share the work (None: `torch.get_num_threads()`), or a `crew` that other calls
        share; it changes no code. `progress` is told, after every block read, which part of the source that was up to,
        0 to 1.

        AudioError, a ValueError, for what is no audio, is truncated, or holds NaN or infinity.
        """
        with self._crew(self._encoding(num_codebooks), workers) as workforce:
            return self._encode(workforce, audio, sample_rate, channels, start, end, progress)

    def encode_batch(
        self,
        audios: Iterable[AudioLike],
        sample_rate: int | None = None,
        *,
        num_codebooks: int | None = None,
        channels: Channels = "mix",
        workers: int | None = None,
    ) -> list[Codes]:
        """`encode` of each, with the same codes: `workers` are shared, and on a GPU many items fill each batch."""
        if isinstance(audios, str | Path):
            raise AudioError(f"audios is {str(audios)!r}; wanted are several recordings, as a list")
        with self._crew(self._encoding(num_codebooks), workers) as workforce:
            return side_by_side(
                lambda audio: self._encode(workforce, audio, sample_rate, channels, 0, None, None),
                audios,
                workforce.capacity,
            )

    def _encoding(self, num_codebooks: int | None) -> Side:
        return Side(self.codec, "encode", num_codebooks=check_num_codebooks(num_codebooks, self.num_codebooks))

    def _encode(
        self,
        workforce: Crew,
        audio: AudioLike,
        sample_rate: int | None,
        channels: Channels,
        start: float | Fraction,
        end: float | Fraction | None,
        progress: Callable[[float], None] | None,
    ) -> Codes:
        if channels not in get_args(Channels):
            raise ValueError(f"channels is {channels!r}; expected one of {', '.join(get_args(Channels))}")
        source = open_source(audio, sample_rate, default_rate=self.sample_rate)
        lengths = Lengths(
            self.sample_rate, source.num_samples_at(self.sample_rate), source.sample_rate, source.num_samples
        )
        num_frames = self.frames_for(source.num_samples_at(self.sample_rate))
        first, last = frames_between(start, inf if end is None else end, self.frame_rate, num_frames)
        num_samples, source_num_samples = lengths.between(first * self.hop_length, last * self.hop_length)
        K = workforce.side.num_codebooks
        assert K is not None  # `_encoding` says how many
        values = np.empty((1 if channels == "mix" else source.channels, K, last - first), np.int64)
        blocks = coded_frames(workforce, source, first, last, mix=channels == "mix", progress=progress)
        return Codes(
            _filled(values, blocks),
            codebook_sizes=self.codebook_sizes[:K],
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            num_samples=num_samples,
            source_sample_rate=source.sample_rate,
            source_num_samples=source_num_samples,
            token_fingerprint=self.token_fingerprint,
        )

    # ---- codes -> audio

    def decode(
        self,
        codes: Codes,
        *,
        sample_rate: int | Literal["source"] | None = None,
        start: float | Fraction = 0,
        end: float | Fraction | None = None,
        workers: int | Crew | None = None,
    ) -> Tensor:
        """Codes -> audio (C, T) float32 on the CPU, at the model's rate (None), the source's, or any in Hz.

        T is `codes.num_samples` at the model's rate, exactly `codes.source_num_samples` at the source's, and
        ⌈source duration · rate⌉ at others. With `start` and `end`, in seconds, those of these samples whose instants
        lie in [start, end), and no more is computed than they depend on. `workers` as in `encode`. CodesError if the
        codes are another tokenizer's.
        """
        self._checked(codes)
        rate = self.output_rate(codes, sample_rate)
        with self._crew(Side(self.codec, "decode"), workers) as workforce:
            return self._whole(workforce, codes, rate, start, end)

    def decode_batch(
        self,
        codes: Iterable[Codes],
        *,
        sample_rate: int | Literal["source"] | None = None,
        workers: int | None = None,
    ) -> list[Tensor]:
        """`decode` of each; `workers` are shared as in `encode_batch`."""
        if isinstance(codes, Codes):
            raise CodesError("codes are of one recording; wanted are those of several, as a list")
        with self._crew(Side(self.codec, "decode"), workers) as workforce:
            return side_by_side(
                lambda each: self._whole(workforce, each, self.output_rate(each, sample_rate), 0, None),
                map(self._checked, codes),
                workforce.capacity,
            )

    def decode_blocks(
        self,
        codes: Codes,
        *,
        sample_rate: int | Literal["source"] | None = None,
        start: float | Fraction = 0,
        end: float | Fraction | None = None,
        workers: int | Crew | None = None,
    ) -> Iterator[Tensor]:
        """`decode` as blocks (C, t), so that audio of any length can be written as it comes."""
        self._checked(codes)
        rate = self.output_rate(codes, sample_rate)

        def blocks() -> Iterator[Tensor]:
            with self._crew(Side(self.codec, "decode"), workers) as workforce:
                yield from decoded_samples(workforce, codes, rate, *self._span(codes, rate, start, end))

        return blocks()

    def output_rate(self, codes: Codes, sample_rate: int | Literal["source"] | None) -> int:
        """The rate in Hz that `decode` gives with this `sample_rate`."""
        if sample_rate is None:
            return self.sample_rate
        if isinstance(sample_rate, str):
            if sample_rate != "source":
                raise AudioError(f"sample_rate is {sample_rate!r}; wanted is a number of Hz, 'source' or None")
            return codes.source_sample_rate
        return checked_rate(sample_rate)

    def _span(self, codes: Codes, rate: int, start: float | Fraction, end: float | Fraction | None) -> tuple[int, int]:
        """The samples at `rate` that lie in an interval: first, and the one after the last."""
        num_samples = codes.num_samples
        if rate != self.sample_rate:
            num_samples = resampled_length(codes.source_num_samples, codes.source_sample_rate, rate)
        return samples_between(start, inf if end is None else end, rate, num_samples)

    def _whole(
        self, workforce: Crew, codes: Codes, rate: int, start: float | Fraction, end: float | Fraction | None
    ) -> Tensor:
        first, last = self._span(codes, rate, start, end)
        audio = np.empty((codes.channels, last - first), np.float32)
        return _filled(audio, decoded_samples(workforce, codes, rate, first, last))

    def crew(
        self,
        direction: Literal["encode", "decode"],
        workers: int | None = None,
        *,
        num_codebooks: int | None = None,
    ) -> AbstractContextManager[Crew]:
        """Workers that several calls of `encode`, or of `decode`, share, each call made in a thread of its own.

        with tokenizer.crew("encode", 8) as crew:      # in each of some threads, file by file:
            codes = tokenizer.encode(path, workers=crew)
        """
        side = self._encoding(num_codebooks) if direction == "encode" else Side(self.codec, "decode")
        return self._crew(side, workers)

    @contextmanager
    def _crew(self, side: Side, workers: int | Crew | None) -> Iterator[Crew]:
        if isinstance(workers, Crew):
            if workers.side != side:
                raise ValueError("the crew is that of another tokenizer, direction or number of codebooks")
            yield workers
            return
        if (dtype := next(self.codec.parameters()).dtype) != torch.float32:
            raise ValueError(f"the codec's weights are {dtype}; codes are those of float32: undo it by codec.float()")
        workers = torch.get_num_threads() if workers is None else workers
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers is {workers!r}; it must be an integer of at least 1, a crew, or None")
        with crew(side, workers) as workforce:
            yield workforce

    def _checked(self, codes: Codes) -> Codes:
        check_belongs(codes, self.codec, self.info)
        return codes

    # ---- audio and codes that are still being made

    def session(
        self,
        sample_rate: int | None = None,
        *,
        num_codebooks: int | None = None,
        channels: Channels = "mix",
        block_frames: int | None = None,
    ) -> Session:
        """Live audio -> codes: push(chunk) -> Codes, finish() -> Codes; see `vqaudio.session`.

        `sample_rate` is that of the chunks (None: the model's). With `block_frames` None blocks are those of `encode`,
        and so are the codes, to the bit. With 1 codes come as soon as the model can tell them
        (`Session.latency_seconds`), and a code that was nearly as good as another may take its place.
        """
        if channels not in get_args(Channels):
            raise ValueError(f"channels is {channels!r}; expected one of {', '.join(get_args(Channels))}")
        settings = Settings(
            direction="encode",
            block_frames=BLOCK_FRAMES if block_frames is None else block_frames,
            sample_rate=self.sample_rate if sample_rate is None else checked_rate(sample_rate),
            num_codebooks=check_num_codebooks(num_codebooks, self.num_codebooks),
            channels=channels,
        )
        return Session(self.codec, self.info, settings)

    def decoding_session(
        self, sample_rate: int | Literal["source"] | None = None, *, block_frames: int | None = None
    ) -> DecodingSession:
        """Codes as they come -> audio: push(codes) -> (C, t), finish() -> (C, t), `sample_rate` as in `decode`."""
        rate: int | Literal["source"] = "source"
        if sample_rate != "source":
            rate = self.sample_rate if sample_rate is None else checked_rate(sample_rate)
        settings = Settings(
            direction="decode",
            block_frames=BLOCK_FRAMES if block_frames is None else block_frames,
            sample_rate=rate,
            num_codebooks=self.num_codebooks,
        )
        return DecodingSession(self.codec, self.info, settings)

    def resume_session(self, path: str | Path) -> Session | DecodingSession:
        """The session that `Session.save` wrote, ready to go on; SessionError if it is another model's, or damaged."""
        return resumed(path, self.codec, self.info)

    # ---- codes -> vectors

    def embed(self, codes: Codes) -> Tensor:
        """The latents that codes stand for, (C, D, N) float32: the sum of their rows in `codebook(k)`."""
        self._checked(codes)
        parts = codes.values.to(self.device).split(EMBED_FRAMES, dim=-1)
        decode = self.codec.quantizer.decode
        return run_apart(lambda: torch.cat([decode(part) for part in parts], dim=-1), self.device).cpu()

    def codebook(self, level: int) -> Tensor:
        """What the codes of codebook 0 ≤ `level` < K stand for in the latent space, (V, D) float32."""
        if not 0 <= level < self.num_codebooks:
            raise ValueError(f"there is no codebook {level}; this tokenizer has 0 to {self.num_codebooks - 1}")
        return run_apart(lambda: self.codec.quantizer.codebook(level), self.device).cpu()


def _filled(array: np.ndarray, blocks: Iterator[Tensor]) -> Tensor:
    """The blocks (..., n) in an array for all of them: half the memory of keeping them until they can be joined."""
    num_done = 0
    for block in blocks:
        array[..., num_done : num_done + block.shape[-1]] = block.numpy()
        num_done += block.shape[-1]
    assert num_done == array.shape[-1]
    return torch.from_numpy(array)
