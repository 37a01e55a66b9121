"""vqaudio encode --stream and decode --stream: between pipes, as the sound is made.

arecord | vqaudio encode --stream | vqaudio decode --stream | aplay
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from torch import Tensor

from vqaudio.cli.coding import UsageError, load_tokenizer
from vqaudio.cli.reporting import note
from vqaudio.code_stream import CodeStreamWriter, read_code_stream
from vqaudio.codes import CodesError
from vqaudio.io import AudioError
from vqaudio.pcm import PcmFormat, read_wav_header, to_bytes, to_floats, wav_header

NAME = "standard input"
# FLAC, Ogg, MP3 with a tag, AIFF, big-endian WAV, WAV past 4 GiB, and what `encode --stream` writes
_OTHER_FILES = (b"fLaC", b"OggS", b"ID3", b"FORM", b"RIFX", b"RF64", b'{"ch')
PIPE_BYTES = 65536  # read at once, if so much is there


def encode_stream(options: Namespace) -> int:
    """Samples from standard input -> a code stream on standard output."""
    _check(options)
    tokenizer, num_codebooks = load_tokenizer(options)
    source = sys.stdin.buffer
    form, head, size = _opened(source, options, tokenizer.sample_rate)
    session = tokenizer.session(
        form.sample_rate,
        num_codebooks=num_codebooks,
        channels=options.channels,
        block_frames=options.block_frames,
    )
    writer = CodeStreamWriter(sys.stdout.buffer)
    held = b""
    num_bytes = 0
    for data in chain([head], _read(source, size)):
        num_bytes += len(data)
        held += data
        whole = len(held) - len(held) % form.frame_bytes
        if whole:
            writer.write(session.push(to_floats(held[:whole], form)))
            held = held[whole:]
    writer.write(session.finish())
    writer.close()
    if size is not None and num_bytes < size:
        raise AudioError(f"{NAME}: truncated: its header promises {size} bytes of samples, {num_bytes} came")
    if held:
        raise AudioError(f"{NAME}: ended within a sample of {form.frame_bytes} bytes; what came before is encoded")
    return 0


def decode_stream(options: Namespace) -> int:
    """A code stream from standard input -> samples on standard output."""
    _check(options)
    tokenizer, num_codebooks = load_tokenizer(options)
    session = tokenizer.decoding_session(options.sample_rate, block_frames=options.block_frames)
    form: PcmFormat | None = None
    num_clipped = 0

    def write(audio: Tensor) -> None:
        nonlocal num_clipped
        assert form is not None
        data, clipped = to_bytes(audio, form)
        num_clipped += clipped
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    failure = None
    try:
        for codes in read_code_stream(sys.stdin.buffer, NAME):
            if form is None:
                encoding = "s16le" if options.pcm in ("auto", "wav") else options.pcm
                form = PcmFormat(encoding, tokenizer.output_rate(codes, options.sample_rate), codes.channels)
                if options.pcm in ("auto", "wav"):
                    sys.stdout.buffer.write(wav_header(form))
            write(session.push(codes if num_codebooks is None else codes.prefix(num_codebooks)))
    except CodesError as error:
        if form is None:
            raise
        failure = error  # what has come is decoded to its end all the same
    if form is not None:
        write(session.finish())
    if num_clipped:
        note(f"{num_clipped} sample{'s' * (num_clipped > 1)} beyond full scale clipped")
    if failure is not None:
        raise failure
    return 0


def _check(options: Namespace) -> None:
    if options.files or options.out:
        raise UsageError("--stream goes from standard input to standard output, so it takes neither files nor --out")
    if sys.stdin is None or sys.stdout is None:
        raise UsageError("--stream goes from standard input to standard output, and one of them is closed")
    unsuited = {name: getattr(options, name, None) for name in ("start", "end", "workers", "format")}
    for name, given in unsuited.items():
        if given is not None:
            raise UsageError(f"--{name} is for files, and --stream does without it")


def _opened(source: BinaryIO, options: Namespace, model_rate: int) -> tuple[PcmFormat, bytes, int | None]:
    """The format of what comes, the samples already read to find out, and how many bytes follow (None: to the end)."""
    given = PcmFormat(
        "s16le" if options.pcm in ("auto", "wav") else options.pcm,
        options.input_rate or model_rate,
        options.input_channels or 1,
    )
    if options.pcm not in ("auto", "wav"):
        return given, b"", None
    head = source.read(4)
    if head != b"RIFF":
        if options.pcm == "wav":
            raise AudioError(f"{NAME}: is no WAV; for bare samples say --pcm s16le, or how they are encoded")
        if head.startswith(_OTHER_FILES):
            raise AudioError(f"{NAME}: begins like a file of another kind; wanted are samples, bare or as a WAV")
        return given, head, None
    form, size = read_wav_header(source, NAME)
    for name, said, found in (
        ("--input-rate", options.input_rate, form.sample_rate),
        ("--input-channels", options.input_channels, form.channels),
    ):
        if said not in (None, found):
            raise AudioError(f"{NAME}: {name} is {said}, and the WAV header says {found}")
    return form, b"", size


def _read(source: BinaryIO, size: int | None) -> Iterator[bytes]:
    """What is there, as soon as it is."""
    while size is None or size > 0:
        # not source.read, which waits until all of it is there
        data = source.read1(PIPE_BYTES if size is None else min(size, PIPE_BYTES))  # type: ignore[attr-defined]
        if not data:
            return
        if size is not None:
            size -= len(data)
        yield data
