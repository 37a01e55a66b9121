"""Sessions: audio that is still being made, pushed in as it comes, and codes out as soon as they are settled; and back.

    session = tokenizer.session(sample_rate=48_000)
    for chunk in microphone:
        codes = session.push(chunk)      # Codes of the frames that are settled now, perhaps none
    codes = session.finish()             # the rest

All that was returned, concatenated, equals `tokenizer.encode` of the whole, to the bit, if `block_frames` is that of
the engine. Smaller blocks come out sooner; rounding then differs, and now and then a code nearly as good wins.

    48 kHz ──► resampler ──► cutter ──► encoder and quantiser ──► Codes        state: what each of the three remembers

The state is data: it can be copied, written to a file and taken up by another process that has the same model.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vqaudio.checkpoint import ModelInfo
from vqaudio.codes import Codes, CodesError, Lengths
from vqaudio.dsp import Resampler, mix_down, resampled_length
from vqaudio.engine import Block, Cutter, Group, Side, crew
from vqaudio.io import write_aside
from vqaudio.models import Codec
from vqaudio.nn import Stream
from vqaudio.source import open_source

FORMAT = "vqaudio session"
VERSION = 1

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class SessionError(ValueError):
    """A session that cannot go on, or a file that holds none for this model; one sentence, with the file's name."""


@dataclass(frozen=True)
class Settings:
    """What a session was opened with; the rates are in Hz."""

    direction: Literal["encode", "decode"]
    block_frames: int
    sample_rate: int | Literal["source"]  # of the audio pushed, or given
    num_codebooks: int  # of an encoding session
    channels: Literal["mix", "keep"] = "mix"


class Live(ABC, Generic[InputT, OutputT]):
    """What both directions share. Subclasses say how an input becomes pieces for the cutter, and blocks an output."""

    def __init__(self, codec: Codec, info: ModelInfo, settings: Settings) -> None:
        self.codec, self.info, self.settings = codec, info, settings
        num_codebooks = settings.num_codebooks if settings.direction == "encode" else None
        self.side = Side(codec, settings.direction, block_frames=settings.block_frames, num_codebooks=num_codebooks)
        self._cutter = Cutter(self.side.grid)
        self._resampler: Resampler | None = None
        self._streams: list[Stream] = []  # one for each channel
        # What came in at the model's rate and at the source's, what went out, and what all input has in common.
        self._numbers = dict.fromkeys(
            ("num_in", "num_source", "num_given", "channels", "num_codebooks", "source_rate"), 0
        )
        self._finished = False

    # ---- pushing

    def push(self, chunk: InputT) -> OutputT:
        """What is settled now, after one more chunk; a chunk that is refused leaves the session as it was."""
        return push_together([self], [chunk])[0]

    def finish(self) -> OutputT:
        """The rest. The session takes no more then."""
        self._check_open()
        blocks = self._last_blocks()
        self._finished = True
        return self._given(self._outputs(_run([self], [blocks], workers=1)[0]), last=True)

    @property
    def latency_seconds(self) -> float:
        """How long after its instant an output has come out at the latest, if nothing takes any time to compute."""
        frames = self.settings.block_frames + self._delay_frames
        return float(frames / self.codec.frame_rate) + self._resampler_delay_seconds

    def _check_open(self) -> None:
        if self._finished:
            raise SessionError("this session is finished; open another one")

    def _group(self, blocks: list[Block]) -> Group:
        if not self._streams:
            self._streams = [{} for _ in blocks[0].data]
        return Group(self.side.grid, blocks, self._streams)

    def _outputs(self, parts: list[Tensor]) -> Tensor:
        """Outputs of blocks one after the other, (C, ..., n)."""
        return torch.cat([self._nothing(), *parts], dim=-1)

    # ---- what the directions differ in

    _delay_frames: int

    @property
    @abstractmethod
    def _resampler_delay_seconds(self) -> float: ...

    @abstractmethod
    def _checked(self, chunk: InputT) -> Any:
        """Refuse a chunk that cannot follow; what `_blocks` takes of one that can."""

    @abstractmethod
    def _blocks(self, checked: Any) -> list[Block]:
        """Take a chunk in: the blocks that it completes."""

    @abstractmethod
    def _last_blocks(self) -> list[Block]: ...

    @abstractmethod
    def _total(self, num_inputs: int) -> int:
        """How many outputs of the codec there are, once so many inputs have come."""

    @abstractmethod
    def _nothing(self) -> Tensor: ...

    @abstractmethod
    def _given(self, outputs: Tensor, *, last: bool) -> OutputT: ...

    # ---- the state

    def copy(self) -> Self:
        """Another session in the same state: both go on by themselves."""
        other = type(self)(self.codec, self.info, self.settings)
        other._restore(*self._state())
        return other

    def save(self, path: str | Path) -> None:
        """Write the state to a file, complete or not at all; `AudioTokenizer.resume_session` takes it up."""
        numbers, tensors = self._state()
        document = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self._fingerprint,
            "settings": vars(self.settings),
            "numbers": numbers,
        }
        document["sha256"] = _hash(document, tensors)
        data = save(tensors, metadata={"vqaudio": json.dumps(document, sort_keys=True)})
        with write_aside(path) as partial:
            partial.write_bytes(data)

    @property
    def _fingerprint(self) -> str:
        """Of the weights that the state belongs to."""
        return self.info.token_fingerprint if self.settings.direction == "encode" else self.info.model_fingerprint

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        numbers: dict[str, Any] = {"counts": dict(self._numbers), "finished": self._finished}
        numbers["next_block"] = self._cutter.next_block
        numbers["streams"] = len(self._streams)
        tensors = {f"stream.{row}.{key}": x for row, stream in enumerate(self._streams) for key, x in stream.items()}
        if self._cutter.held is not None:
            tensors["held"] = self._cutter.held
        if self._resampler is not None:
            numbers["rates"] = [self._resampler.source_rate, self._resampler.target_rate]
            numbers["resampler"], pending = self._resampler.state()
            if pending is not None:
                tensors["pending"] = pending
        return numbers, {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._numbers, self._finished = dict(numbers["counts"]), numbers["finished"]
        self._cutter.next_block, self._cutter.held = numbers["next_block"], tensors.get("held")
        self._streams = [{} for _ in range(numbers["streams"])]
        for key, tensor in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "stream":
                row, _, name = rest.partition(".")
                self._streams[int(row)][name] = tensor.to(self.side.device)
        if "rates" in numbers:
            self._resampler = Resampler(*numbers["rates"])
            self._resampler.restore(numbers["resampler"], tensors.get("pending"))


class Session(Live[np.ndarray | Tensor, Codes]):
    """Audio in, `Codes` out; `AudioTokenizer.session` opens one.

    `push` takes chunks (T,) or (C, T) of any length, as `AudioTokenizer.encode` takes arrays. After n samples at the
    session's rate at least ⌊(n / rate - latency_seconds) · frame rate⌋ frames have come out.
    """

    def __init__(self, codec: Codec, info: ModelInfo, settings: Settings) -> None:
        super().__init__(codec, info, settings)
        self._delay_frames = codec.encoder_delay_frames
        assert isinstance(settings.sample_rate, int)
        self._rate = settings.sample_rate
        self._resampler: Resampler = Resampler(self._rate, codec.sample_rate)

    @property
    def _resampler_delay_seconds(self) -> float:
        return self._resampler.delay_samples / self._rate

    def _checked(self, chunk: np.ndarray | Tensor) -> Tensor:
        if not isinstance(chunk, np.ndarray | Tensor):
            raise SessionError(f"a chunk is a {type(chunk).__name__}; wanted is an array (T,) or (C, T)")
        source = open_source(chunk, self._rate, default_rate=self._rate)
        audio = torch.cat(
            [torch.zeros(source.channels, 0, dtype=torch.float32), *source.read(0, source.num_samples)], dim=1
        )
        audio = mix_down(audio) if self.settings.channels == "mix" else audio
        if self._numbers["channels"] not in (0, len(audio)):
            raise SessionError(f"a chunk of {len(audio)} channels follows one of {self._numbers['channels']}")
        return audio

    def _blocks(self, checked: Tensor) -> list[Block]:
        self._numbers["channels"] = len(checked)
        self._numbers["num_source"] += checked.shape[1]
        return list(self._cutter.push(self._resampler.push(checked)))

    def _last_blocks(self) -> list[Block]:
        if not self._numbers["num_source"]:
            return []
        blocks = list(self._cutter.push(self._resampler.finish()))
        return blocks + list(self._cutter.finish())

    def _total(self, num_inputs: int) -> int:
        return self.codec.frames_for(num_inputs)

    def _nothing(self) -> Tensor:
        return torch.zeros(max(1, self._numbers["channels"]), self.settings.num_codebooks, 0, dtype=torch.int64)

    def _given(self, outputs: Tensor, *, last: bool) -> Codes:
        rate, num_source = self.codec.sample_rate, self._numbers["num_source"]
        total = resampled_length(num_source, self._rate, rate) if last else None
        first = self._numbers["num_given"]
        self._numbers["num_given"] += outputs.shape[-1]
        hop = self.codec.hop_length
        lengths = Lengths(rate, total, self._rate, num_source)
        num_samples, source_num_samples = lengths.between(first * hop, self._numbers["num_given"] * hop)
        return Codes(
            outputs,
            codebook_sizes=self.codec.codebook_sizes[: self.settings.num_codebooks],
            sample_rate=rate,
            hop_length=hop,
            num_samples=num_samples,
            source_sample_rate=self._rate,
            source_num_samples=source_num_samples,
            token_fingerprint=self.info.token_fingerprint,
        )


class DecodingSession(Live["Codes | Tensor", Tensor]):
    """Codes in, audio (C, t) float32 out; `AudioTokenizer.decoding_session` opens one.

    `push` takes `Codes`, which must end on whole frames but for the last, or codes (K, n) or (C, K, n) int64. In all it
    gives exactly as many samples as `AudioTokenizer.decode` of the whole.
    """

    def __init__(self, codec: Codec, info: ModelInfo, settings: Settings) -> None:
        super().__init__(codec, info, settings)
        self._delay_frames = codec.decoder_delay_frames
        if isinstance(settings.sample_rate, int):
            self._resampler = Resampler(codec.sample_rate, settings.sample_rate)

    @property
    def _resampler_delay_seconds(self) -> float:
        return 0.0 if self._resampler is None else self._resampler.delay_samples / self.codec.sample_rate

    def _blocks(self, checked: Codes) -> list[Block]:
        if self._resampler is None:
            self._resampler = Resampler(self.codec.sample_rate, checked.source_sample_rate)
        self._numbers["channels"], self._numbers["num_codebooks"] = checked.channels, checked.num_codebooks
        self._numbers["source_rate"] = checked.source_sample_rate
        self._numbers["num_in"] += checked.num_samples
        self._numbers["num_source"] += checked.source_num_samples
        return list(self._cutter.push(checked.values))

    def _as_codes(self, values: Tensor) -> Codes:
        """Whole frames, of a source at the model's rate."""
        if not isinstance(values, Tensor) or values.ndim not in (2, 3) or values.dtype != torch.int64:
            kind = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise CodesError(f"codes to decode are a {kind}; wanted are vqaudio.Codes, or int64 (K, n) or (C, K, n)")
        values = values[None] if values.ndim == 2 else values
        num_samples = values.shape[-1] * self.codec.hop_length
        return Codes(
            values.cpu(),
            codebook_sizes=self.codec.codebook_sizes[: values.shape[1]],
            sample_rate=self.codec.sample_rate,
            hop_length=self.codec.hop_length,
            num_samples=num_samples,
            source_sample_rate=self.codec.sample_rate,
            source_num_samples=num_samples,
            token_fingerprint=self.info.token_fingerprint,
        )

    def _checked(self, chunk: Codes | Tensor) -> Codes:
        codes = chunk if isinstance(chunk, Codes) else self._as_codes(chunk)
        check_belongs(codes, self.codec, self.info)
        if self._numbers["channels"]:
            given = (codes.channels, codes.num_codebooks, codes.source_sample_rate)
            before = tuple(self._numbers[name] for name in ("channels", "num_codebooks", "source_rate"))
            if given != before:
                what = "channels, codebooks and source rate"
                raise SessionError(f"codes of {given} {what} follow codes of {before}; they must be the same")
        if codes.num_frames and self._numbers["num_in"] % self.codec.hop_length:
            raise SessionError("the codes before these ended within a frame, so they were the last of a recording")
        return codes

    def _last_blocks(self) -> list[Block]:
        return list(self._cutter.finish())

    def _total(self, num_inputs: int) -> int:
        return min(num_inputs * self.codec.hop_length, self._numbers["num_in"])

    def _nothing(self) -> Tensor:
        return torch.zeros(max(1, self._numbers["channels"]), 0, dtype=torch.float32)

    def _given(self, outputs: Tensor, *, last: bool) -> Tensor:
        if self._resampler is None:  # not one code has come
            return outputs
        rate = self._resampler.target_rate
        audio = self._resampler.push(outputs)
        if last and rate != self.codec.sample_rate:
            source_rate, num_source = self._numbers["source_rate"], self._numbers["num_source"]
            total = resampled_length(num_source, source_rate, rate)
            missing = max(0, self._resampler.num_inputs_for(total) - self._numbers["num_in"])
            silence = torch.zeros(len(outputs), missing, dtype=torch.float32)
            audio = torch.cat([audio, self._resampler.push(silence), self._resampler.finish()], dim=-1)
            audio = audio[:, : max(0, total - self._numbers["num_given"])]
        self._numbers["num_given"] += audio.shape[-1]
        return audio


def push_together(
    sessions: Sequence[Live[InputT, OutputT]], chunks: Sequence[InputT], *, workers: int | None = None
) -> list[OutputT]:
    """`push` on several sessions at once, with the same results.

    The work is shared by `workers` (None: `torch.get_num_threads()`), and on a GPU the blocks of sessions with the same
    settings are computed together.
    """
    if len(sessions) != len(chunks) or len(set(map(id, sessions))) != len(sessions):
        raise ValueError(f"{len(chunks)} chunks for {len(sessions)} sessions; one for each of different ones is wanted")
    for session in sessions:
        session._check_open()
    taken = list(zip(sessions, chunks, strict=True))
    checked = [session._checked(chunk) for session, chunk in taken]  # all of them, before any has an effect
    blocks = [session._blocks(chunk) for session, chunk in zip(sessions, checked, strict=True)]
    outputs = _run(sessions, blocks, workers=torch.get_num_threads() if workers is None else workers)
    return [session._given(session._outputs(own), last=False) for session, own in zip(sessions, outputs, strict=True)]


def _run(sessions: Sequence[Live[Any, Any]], blocks: Sequence[list[Block]], *, workers: int) -> list[list[Tensor]]:
    """Run each session's blocks; those of one side in one crew."""
    found: list[list[Tensor]] = [[] for _ in sessions]
    sides: dict[Side, list[int]] = {}
    for number, own in enumerate(blocks):
        if own:
            sides.setdefault(sessions[number].side, []).append(number)
    for side, numbers in sides.items():
        with crew(side, min(workers, sum(len(blocks[number][0].data) for number in numbers))) as workforce:
            groups = [sessions[number]._group(blocks[number]) for number in numbers]
            for group in groups:
                for piece in group.pieces:
                    workforce.submit(piece)
            for number, group in zip(numbers, groups, strict=True):
                found[number] = group.outputs(sessions[number]._total)
    return found


def check_belongs(codes: Codes, codec: Codec, info: ModelInfo) -> None:
    """Refuse what are no codes, or codes of another tokenizer."""
    if not isinstance(codes, Codes):
        raise CodesError(
            f"codes are a {type(codes).__name__}; wanted vqaudio.Codes, as encode and Codes.load give; bare numbers "
            "(K, N) become these by the to_codes of a TokenSpace of layout Parallel, see docs/sequence_models.md"
        )
    if codes.token_fingerprint != info.token_fingerprint:
        theirs, ours = codes.token_fingerprint[:12], info.token_fingerprint[:12]
        raise CodesError(
            f"codes of another tokenizer (token fingerprint {theirs}…); {info.name} reads its own ({ours}…)"
        )
    facts: dict[str, tuple[object, object]] = {
        "codebook_sizes": (codes.codebook_sizes, codec.codebook_sizes[: codes.num_codebooks]),
        "sample_rate": (codes.sample_rate, codec.sample_rate),
        "hop_length": (codes.hop_length, codec.hop_length),
    }
    for name, (given, wanted) in facts.items():
        if given != wanted:
            raise CodesError(f"the codes have {name} {given}; {info.name} has {wanted}")


# ---- files


def resumed(path: str | Path, codec: Codec, info: ModelInfo) -> Session | DecodingSession:
    """The session that `save` wrote; SessionError for a foreign, damaged or newer file, or another model's."""
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})["vqaudio"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except OSError as error:
        raise SessionError(f"{path}: cannot be opened ({error.strerror or error})") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise SessionError(f"{path}: is no session of vqaudio, or damaged") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise SessionError(f"{path}: is no session of vqaudio")
    if document.get("version") != VERSION:
        raise SessionError(f"{path}: has format version {document.get('version')!r}; this vqaudio reads {VERSION}")
    if document.pop("sha256", None) != _hash(document, tensors):
        raise SessionError(f"{path}: altered since it was written: its content does not match its hash")
    settings = Settings(**document["settings"])
    kind = Session if settings.direction == "encode" else DecodingSession
    session = kind(codec, info, settings)
    if document["fingerprint"] != session._fingerprint:
        raise SessionError(f"{path}: is a session of another model than {info.name}")
    session._restore(document["numbers"], tensors)
    return session


def _hash(document: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name}:{tensors[name].dtype}:{tuple(tensors[name].shape)};".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
