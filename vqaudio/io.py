"""Read, write and inspect audio files by blocks, through libsndfile; the only module that imports soundfile.

    file ──► read_blocks ──► (C, T) float32, (C, T), ...        AudioWriter ──► file (written aside, then renamed)

Samples come as the decoder gives them: nothing is clipped on reading, and Opus, Vorbis and MP3 do go past 1.0.
Every failure is an `AudioError`, one sentence with the file's name.

What a truncated file looks like, and what is done about it:

* WAV, RF64, AIFF: libsndfile quietly shortens the file, so the size of the data chunk is compared with the file's here.
  A streamed WAV (size 0 or a placeholder such as 0xFFFFFFFF, as written into a pipe) is read to its end.
* FLAC, and MP3 with a frame count (Xing, Info or VBRI): fewer samples come than the header promises, which only
  decoding can tell: the error comes on reading past the last of them.
* Ogg (Vorbis, Opus): the last page is incomplete. A cut exactly between two pages is what an interrupted recorder
  leaves, and is accepted.
* FLAC without a length, as written into a pipe: counted by decoding it. A cut between two of its frames stays unseen.
* MP3 without a frame count: its frames are counted here, since libsndfile would guess from the bit rate and stop there.
  Such a stream promises nothing, so a cut cannot be noticed; nor can one in AU, W64 and the other containers that
  libsndfile opens.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from vqaudio.containers import SAMPLE_BYTES, AudioError as AudioError, check_data_size, repaired

if TYPE_CHECKING:
    import soundfile

Source = str | Path | BinaryIO

# What folders are searched for. Other containers that libsndfile knows are read too: the content decides, not the name.
AUDIO_EXTENSIONS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif"})

# By extension: libsndfile's format, its default subtype, and the rates it takes (None: any).
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
WRITTEN_FORMATS: dict[str, tuple[str, str, tuple[int, ...] | None]] = {
    ".wav": ("WAV", "PCM_16", None),
    ".flac": ("FLAC", "PCM_16", None),
    ".aiff": ("AIFF", "PCM_16", None),
    ".aif": ("AIFF", "PCM_16", None),
    ".ogg": ("OGG", "VORBIS", None),
    ".oga": ("OGG", "VORBIS", None),
    ".opus": ("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
    ".mp3": ("MP3", "MPEG_LAYER_III", MP3_RATES),
}
INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
CANNOT_BE_EMPTY = {"FLAC", "OPUS", "MP3"}  # libsndfile writes such a file, and cannot open it again
WAV_LIMIT_BYTES = 2**32 - 4096  # sizes are 32 bits; past them libsndfile writes a wrong header without a word

UNKNOWN_FRAMES = 2**62  # libsndfile reports its largest integer for a length it does not know


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says. `num_samples` counts per channel."""

    name: str
    format: str  # libsndfile's words: WAV, FLAC, OGG, MP3, ...
    subtype: str  # PCM_16, FLOAT, VORBIS, OPUS, MPEG_LAYER_III, ...
    sample_rate: int
    num_samples: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def inspect_audio(source: Source) -> AudioInfo:
    """The facts of an audio file, decoded only if its header has no length (FLAC written into a pipe).

    A file object must be seekable, is taken from its beginning and is left open.
    """
    with _opened(source) as (_, info):
        return info


def read_blocks(
    source: Source, *, block_samples: int = 65536, start: int = 0, stop: int | None = None
) -> Iterator[Tensor]:
    """Samples `start` to `stop` (default: all) as blocks (C, T) float32 with T = `block_samples` but for the last one.

    Memory stays constant, a file given by path is closed when the iterator ends or is closed, and MP3, Ogg and Opus are
    decoded from their start whatever `start` is, so that an excerpt equals the same samples of the whole. An empty
    range gives one block (C, 0), so the number of channels is always known. Raises AudioError for what is no audio, a
    range outside the file, a file that ends before its header says, and NaN or infinite samples.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples is {block_samples}; it must be at least 1")
    with _opened(source) as (sound, info):
        stop = info.num_samples if stop is None else stop
        if not 0 <= start <= stop <= info.num_samples:
            raise AudioError(f"{info.name}: samples {start} to {stop} were asked for, and it has {info.num_samples}")
        if start == stop:
            yield torch.zeros(info.channels, 0, dtype=torch.float32)
        position = _skip(sound, info, start)
        while position < stop:
            block = _decoded(sound, info, min(block_samples, stop - position), position)
            if not np.isfinite(block).all():
                sample, channel = np.argwhere(~np.isfinite(block))[0]
                place = f"sample {position + sample} of channel {channel}"
                raise AudioError(f"{info.name}: {place} is {block[sample, channel]}, not a finite number")
            yield torch.from_numpy(np.ascontiguousarray(block.T))  # (C, T)
            position += len(block)


def read_audio(source: Source, *, start: int = 0, stop: int | None = None) -> tuple[Tensor, int]:
    """Samples `start` to `stop` of a file as (C, T) float32, and its rate in Hz; errors as in `read_blocks`."""
    sample_rate = inspect_audio(source).sample_rate
    return torch.cat(list(read_blocks(source, start=start, stop=stop)), dim=1), sample_rate


def write_audio(path: str | Path, audio: Tensor | np.ndarray, sample_rate: int, *, subtype: str | None = None) -> int:
    """Write (T,) or (C, T) to a file whose extension names the format; the number of samples clipped (PCM only)."""
    audio = _array(path, audio)
    if audio.ndim == 1:
        audio = audio[None]
    if audio.ndim != 2:
        raise AudioError(f"{path}: audio to write is (T,) or (C, T), and this has shape {audio.shape}")
    with AudioWriter(path, sample_rate, len(audio), subtype=subtype) as writer:
        writer.write(audio)
    return writer.num_clipped


class AudioWriter:
    """Write an audio file block by block, inside `with`: the file appears, complete, when the block ends without error.

    The extension names the format (.wav, .flac, .aiff, .ogg, .opus, .mp3) and `subtype` libsndfile's encoding, 16-bit
    PCM by default where there is a choice. PCM is rounded to the nearest step and clipped to [-1, 1]; `num_clipped`
    counts the samples that lay outside. Float and lossy encodings take what comes.
    """

    def __init__(self, path: str | Path, sample_rate: int, channels: int, *, subtype: str | None = None) -> None:
        self.path = Path(path)
        extension = self.path.suffix.lower()
        if extension not in WRITTEN_FORMATS:
            raise AudioError(f"{path}: cannot write '{extension}'; the extensions are {', '.join(WRITTEN_FORMATS)}")
        self.format, default_subtype, rates = WRITTEN_FORMATS[extension]
        self.subtype = default_subtype if subtype is None else subtype
        try:
            sample_rate = index(sample_rate)
        except TypeError as error:
            wanted = "a whole number of Hz"
            raise AudioError(f"{path}: the sample rate is {sample_rate!r}; wanted is {wanted}") from error
        if sample_rate < 1 or (rates is not None and sample_rate not in rates):
            wanted = "a positive number of Hz" if rates is None else f"one of {rates} Hz"
            raise AudioError(f"{path}: the sample rate is {sample_rate} Hz, and {extension} takes {wanted}")
        if channels < 1:
            raise AudioError(f"{path}: {channels} channels were asked for, and a file has at least one")
        self.sample_rate = sample_rate
        self.channels = channels
        self.num_samples = 0
        self.num_clipped = 0

    def __enter__(self) -> Self:
        import soundfile

        if self.subtype not in soundfile.available_subtypes(self.format):
            known = ", ".join(soundfile.available_subtypes(self.format))
            raise AudioError(f"{self.path}: {self.format} has no subtype '{self.subtype}'; it has {known}")
        with ExitStack() as stack:
            partial = stack.enter_context(write_aside(self.path))
            self._file = _Watched(stack.enter_context(open(partial, "wb", buffering=0)))
            try:
                sound = soundfile.SoundFile(
                    self._file, "w", self.sample_rate, self.channels, self.subtype, format=self.format
                )
            except RuntimeError as error:
                wanted = f"{self.channels} channels at {self.sample_rate} Hz as {self.format} {self.subtype}"
                raise AudioError(f"{self.path}: libsndfile cannot write {wanted} ({_reason(error)})") from error
            stack.callback(self._finish, sound)
            self._sound = sound
            self._stack = stack.pop_all()
        return self

    def write(self, block: Tensor | np.ndarray) -> None:
        """Append a block (C, T) of finite numbers."""
        samples = _array(self.path, block)  # (C, T)
        if samples.ndim != 2 or len(samples) != self.channels:
            raise AudioError(f"{self.path}: a block is ({self.channels}, T), and this has shape {samples.shape}")
        if not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(f"{self.path}: samples are {samples.dtype}, and floats in [-1, 1] are wanted")
        if not np.isfinite(samples).all():
            channel, sample = np.argwhere(~np.isfinite(samples))[0]
            place = f"sample {self.num_samples + sample} of channel {channel}"
            raise AudioError(f"{self.path}: {place} is {samples[channel, sample]}, not a finite number")
        num_samples = self.num_samples + samples.shape[1]
        num_bytes = num_samples * self.channels * SAMPLE_BYTES.get(self.subtype, 0)
        if self.format != "FLAC" and num_bytes > WAV_LIMIT_BYTES:
            raise AudioError(f"{self.path}: {self.format} holds at most 4 GiB, and this is more; write .flac")
        try:
            for first in range(0, samples.shape[1], 16384):  # the Vorbis encoder overflows its stack on long blocks
                self._sound.write(self._encodable(samples[:, first : first + 16384].T))
        except (RuntimeError, AssertionError) as error:  # soundfile asserts that everything was written
            place = f"after sample {self.num_samples}"
            raise AudioError(f"{self.path}: writing stopped {place} ({_reason(error)})") from error
        self._check_written()
        self.num_samples = num_samples

    def _finish(self, sound: "soundfile.SoundFile") -> None:
        """Close, which writes what encoders hold back; libsndfile says nothing where that fails."""
        sound.close()
        self._check_written()

    def _check_written(self) -> None:
        if self._file.error is not None:
            raise AudioError(f"{self.path}: cannot be written ({self._file.error.strerror})") from self._file.error

    def _encodable(self, samples: np.ndarray) -> np.ndarray:
        """(T, C) floats -> what libsndfile stores without rounding or clipping of its own, which is towards -inf."""
        if self.subtype not in SAMPLE_BYTES or self.subtype in ("FLOAT", "DOUBLE"):
            return samples.astype(np.float64 if self.subtype == "DOUBLE" else np.float32)
        self.num_clipped += int(np.count_nonzero(np.abs(samples) > 1))
        if self.subtype not in INTEGER_BITS:
            return np.clip(samples, -1, 1).astype(np.float32)
        bits = INTEGER_BITS[self.subtype]
        full_scale = 2 ** (bits - 1)
        steps = np.clip(np.rint(samples.astype(np.float64) * full_scale), -full_scale, full_scale - 1)
        return steps.astype(np.int32) << (32 - bits)  # libsndfile keeps the upper bits of an int32

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.num_samples == 0 and {self.format, self.subtype} & CANNOT_BE_EMPTY:
            error = AudioError(f"{self.path}: {self.path.suffix} cannot hold zero samples; write .wav")
            self._stack.__exit__(AudioError, error, None)  # removes the partial file
            raise error
        self._stack.__exit__(kind, error, trace)


def _array(path: str | Path, audio: Tensor | np.ndarray) -> np.ndarray:
    """Samples to write as an array, whatever device, strides and byte order they have."""
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu().resolve_neg()
        return audio.float().numpy() if audio.dtype == torch.bfloat16 else audio.numpy()
    try:
        array = np.asarray(audio)
    except ValueError as error:  # rows of different lengths
        raise AudioError(f"{path}: audio to write is an array or a tensor ({error})") from error
    if array.dtype.kind not in "fiub":
        raise AudioError(f"{path}: audio to write is an array or a tensor of floats, not {type(audio).__name__}")
    return array


class _Watched:
    """A file for libsndfile to write to, which keeps the first error: raised in a callback of C, it would be lost."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """How many bytes were written; if not all could be, fewer, which libsndfile takes for failure."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = self.error or error
        return len(data) - len(rest)


@contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed to `path` when the block ends, removed if it raises."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent} to write it to")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and the name of a file to write is wanted")
    partial = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename in (partial, str(partial)):  # which nobody has asked for
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


# ---- opening


@contextmanager
def _opened(source: Source) -> Iterator[tuple["soundfile.SoundFile", AudioInfo]]:
    """An open file and its facts, checked for truncation as far as its headers tell. Closes what it opened."""
    import soundfile

    with ExitStack() as stack:
        if isinstance(source, str | Path):
            name = str(source)
            if Path(source).is_dir():
                raise AudioError(f"{name} is a folder, and an audio file is wanted")
            try:
                file: BinaryIO = stack.enter_context(open(source, "rb"))
            except OSError as error:
                raise AudioError(f"{name}: cannot be opened ({error.strerror})") from error
        else:
            file = source
            name = file.name if isinstance(getattr(file, "name", None), str) else "<file object>"
        if not file.seekable():
            raise AudioError(f"{name}: cannot be seeked in; read it into an io.BytesIO first")
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size == 0:
            raise AudioError(f"{name}: the file is empty (0 bytes)")
        readable, data = repaired(name, file, size)
        try:
            sound = stack.enter_context(soundfile.SoundFile(readable))
        except (RuntimeError, TypeError) as error:  # TypeError: a name that ends in .raw
            raise AudioError(f"{name}: is no audio file that libsndfile can read ({_reason(error)})") from error
        # soundfile seeks to where it already is after each read, if it may: MP3 and Opus then go on with other samples.
        sound.seekable = lambda: False
        if data is not None:
            check_data_size(name, sound.format, sound.subtype, sound.channels, *data)
        info = AudioInfo(name, sound.format, sound.subtype, sound.samplerate, sound.frames, sound.channels)
        if sound.frames >= UNKNOWN_FRAMES:
            info = replace(info, num_samples=_counted(sound, info))
        yield sound, info


def _reason(error: Exception) -> str:
    """libsndfile's message without the file's name, which ours begins with, and without a full stop."""
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")


def _counted(sound: "soundfile.SoundFile", info: AudioInfo) -> int:
    """The length of a stream whose header has none, by decoding it once; `sound` is at its start before and after."""
    num_samples = 0
    while count := len(_read(sound, info, 65536, num_samples)):
        num_samples += count
    sound.seek(0)
    return num_samples


def _skip(sound: "soundfile.SoundFile", info: AudioInfo, start: int) -> int:
    """Move to sample `start`: by seeking where that is exact, by decoding everything before it where it is not."""
    if start and info.subtype in SAMPLE_BYTES:
        try:
            return sound.seek(start)
        except RuntimeError as error:
            raise AudioError(f"{info.name}: cannot be read at sample {start} ({_reason(error)})") from error
    position = 0
    while position < start:
        position += len(_decoded(sound, info, min(65536, start - position), position))
    return start


def _decoded(sound: "soundfile.SoundFile", info: AudioInfo, num_samples: int, position: int) -> np.ndarray:
    """The next 1 to `num_samples` samples as (T, C) float32, which must be there; `position` is where they begin."""
    block = _read(sound, info, num_samples, position)
    if not len(block):
        raise AudioError(f"{info.name}: truncated: header promises {info.num_samples} samples, {position} are there")
    return block


def _read(sound: "soundfile.SoundFile", info: AudioInfo, num_samples: int, position: int) -> np.ndarray:
    try:
        return sound.read(num_samples, dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise AudioError(f"{info.name}: damaged after sample {position} ({_reason(error)})") from error
