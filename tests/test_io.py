"""Audio files: what goes in comes out, blocks equal the whole, and every broken file is refused in a sentence."""

import gc
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import assume, given, strategies as st
from torch import Tensor

from vqaudio.io import AUDIO_EXTENSIONS, AudioError, AudioWriter, inspect_audio, read_audio, read_blocks, write_audio

LOSSLESS = [".wav", ".flac", ".aiff"]
LOSSY = [".mp3", ".ogg", ".opus"]
RATE = 16000


def noise(num_samples: int, *, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(channels, num_samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def made_file(folder: Path, extension: str, num_samples: int = 5000, *, channels: int = 2) -> Path:
    path = folder / f"sound{extension}"
    write_audio(path, noise(num_samples, channels=channels), RATE)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind, sound.wav to sound.opus: 5,000 samples, 2 channels."""
    folder = tmp_path_factory.mktemp("sounds")
    for extension in LOSSLESS + LOSSY:
        made_file(folder, extension)
    return folder


# ---- reading what was written


@pytest.mark.parametrize("extension", LOSSLESS)
@given(seed=st.integers(0, 99), num_samples=st.integers(1, 300), channels=st.integers(1, 8))
def test_16_bit_pcm_comes_back_exactly(
    extension: str, seed: int, num_samples: int, channels: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"exact{extension}"
    steps = torch.randint(-32768, 32768, (channels, num_samples), generator=torch.Generator().manual_seed(seed))
    audio = steps.float() / 32768
    assert write_audio(path, audio, RATE) == 0
    again, sample_rate = read_audio(path)
    assert sample_rate == RATE and again.dtype == torch.float32 and again.equal(audio)


def test_pcm_is_rounded_to_the_nearest_step_and_clipping_is_counted(tmp_path: Path) -> None:
    audio = torch.tensor([0.4, 0.6, -0.4, -0.6, 32767.0, 32768.0, -32768.0, 32769.0, -40000.0, 1e9]) / 32768
    assert write_audio(tmp_path / "a.wav", audio, RATE) == 3
    expected = torch.tensor([[0, 1, 0, -1, 32767, 32767, -32768, 32767, -32768, 32767]]) / 32768
    assert read_audio(tmp_path / "a.wav")[0].equal(expected)


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("PCM_24", 2**-24), ("PCM_U8", 2**-8), ("FLOAT", 0), ("ULAW", 0.02)]
)
def test_other_encodings_of_wav(tmp_path: Path, subtype: str, tolerance: float) -> None:
    audio = noise(1000, channels=2)
    audio[1, 5] = 1.5
    num_clipped = write_audio(tmp_path / "a.wav", audio, RATE, subtype=subtype)
    assert num_clipped == (0 if subtype == "FLOAT" else 1)
    assert inspect_audio(tmp_path / "a.wav").subtype == subtype
    expected = audio if subtype == "FLOAT" else audio.clamp(-1, 1 - tolerance)
    assert (read_audio(tmp_path / "a.wav")[0] - expected).abs().max() <= tolerance


@pytest.mark.parametrize("extension", LOSSY)
def test_lossy_files_keep_length_rate_and_peaks(tmp_path: Path, extension: str) -> None:
    time = torch.arange(RATE) / RATE
    audio = 1.2 * torch.sin(2 * torch.pi * 440 * time)
    assert write_audio(tmp_path / f"a{extension}", audio.numpy(), RATE) == 0
    again, sample_rate = read_audio(tmp_path / f"a{extension}")
    assert (again.shape, sample_rate) == ((1, RATE), RATE)
    assert again.abs().max() > 1.1  # nothing was clipped, on either way
    assert (again[0] - audio)[1000:-1000].abs().mean() < 0.05


def test_inspecting_tells_the_facts(folder: Path) -> None:
    info = inspect_audio(folder / "sound.flac")
    assert info.name == str(folder / "sound.flac")
    assert (info.format, info.subtype, info.sample_rate, info.num_samples, info.channels) == (
        "FLAC", "PCM_16", RATE, 5000, 2,
    )  # fmt: skip
    assert info.seconds == 5000 / RATE


def test_real_recordings_of_every_kind_are_read(samples_folder: Path) -> None:
    paths = [path for path in samples_folder.iterdir() if path.suffix in AUDIO_EXTENSIONS]
    assert {path.suffix for path in paths} >= {".flac", ".mp3", ".ogg", ".opus"}
    for path in paths:
        audio, sample_rate = read_audio(path)
        info = inspect_audio(path)
        assert (info.channels, info.num_samples, info.sample_rate) == (*audio.shape, sample_rate)


@pytest.mark.parametrize("extension", [".wav", ".aiff", ".ogg"])
def test_zero_samples_are_a_file_too(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"empty{extension}"
    write_audio(path, torch.zeros(2, 0), RATE)
    assert read_audio(path)[0].shape == (2, 0)
    assert [block.shape for block in read_blocks(path)] == [(2, 0)]


@pytest.mark.parametrize("extension", LOSSLESS + LOSSY)
def test_one_sample_is_one_sample(tmp_path: Path, extension: str) -> None:
    assert read_audio(made_file(tmp_path, extension, 1))[0].shape == (2, 1)


def test_thirty_channels(tmp_path: Path) -> None:
    audio = noise(100, channels=30)
    write_audio(tmp_path / "many.wav", audio, RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "many.wav")[0].equal(audio)
    with pytest.raises(AudioError, match=r"many\.flac: libsndfile cannot write 30 channels"):
        write_audio(tmp_path / "many.flac", audio, RATE)


# ---- blocks and excerpts


@pytest.mark.parametrize("extension", LOSSLESS + LOSSY)
@given(block_samples=st.integers(1, 6000), bounds=st.tuples(st.integers(0, 5000), st.integers(0, 5000)))
def test_any_excerpt_in_any_blocks_equals_the_whole(
    extension: str, block_samples: int, bounds: tuple[int, int], folder: Path
) -> None:
    block_samples = max(block_samples, abs(bounds[0] - bounds[1]) // 100)  # keeps the test short
    path, (start, stop) = folder / f"sound{extension}", sorted(bounds)
    whole, _ = read_audio(path)
    blocks = list(read_blocks(path, block_samples=block_samples, start=start, stop=stop))
    assert all(block.shape[1] == block_samples for block in blocks[:-1])
    assert torch.cat(blocks, dim=1).equal(whole[:, start:stop])


def test_a_range_outside_the_file_is_refused(folder: Path) -> None:
    for start, stop in ((0, 5001), (-1, 10), (20, 10), (6000, None)):
        with pytest.raises(AudioError, match=r"sound\.wav: samples -?\d+ to \d+ were asked for, and it has 5000"):
            read_audio(folder / "sound.wav", start=start, stop=stop)
    with pytest.raises(ValueError, match="block_samples is 0"):
        next(read_blocks(folder / "sound.wav", block_samples=0))


def test_file_objects_are_read_from_their_beginning_and_left_open(folder: Path) -> None:
    for extension in LOSSLESS + LOSSY:
        path = folder / f"sound{extension}"
        whole, _ = read_audio(path)
        with open(path, "rb") as file:
            file.seek(77)
            assert read_audio(file)[0].equal(whole)
            assert inspect_audio(file).name == str(path)
            assert not file.closed
        memory = io.BytesIO(path.read_bytes())
        assert read_audio(memory)[0].equal(whole)
        assert inspect_audio(memory).name == "<file object>"


def test_an_abandoned_reader_closes_its_file(folder: Path) -> None:
    def open_files() -> set[str]:
        return {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}

    if not Path("/proc/self/fd").exists():
        pytest.skip("looks at open files as Linux lists them")
    path = os.path.realpath(folder / "sound.flac")
    blocks = read_blocks(path, block_samples=100)
    next(blocks)
    assert path in open_files()
    del blocks
    gc.collect()
    assert path not in open_files()
    next(read_blocks(path, stop=10))
    gc.collect()
    assert path not in open_files()


# ---- broken files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.wav", b"", r"the file is empty \(0 bytes\)"),
        ("text.wav", b"not a sound " * 99, r"is no audio file that libsndfile can read \(Format not recognised\)"),
        ("text.mp3", b"not a sound " * 99, "is no audio file"),
        ("headerless.raw", bytes(99), "is no audio file"),
        ("noise.ogg", b"OggS" + bytes(range(256)) * 9, "is no audio file"),
        ("start.ogg", b"OggS" + bytes(20), "truncated: its last Ogg page is not complete"),
        ("start.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "truncated: its header ends before any samples"),
    ],
)
def test_what_is_no_audio_is_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (read_audio, inspect_audio):
        with pytest.raises(AudioError, match=f"{name}: {message}"):
            read(tmp_path / name)


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nowhere\.wav: cannot be opened \(No such file or directory\)"):
        read_audio(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match=r"is a folder, and an audio file is wanted"):
        read_audio(tmp_path)
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, pytest.raises(AudioError, match=r"<file object>: cannot be seeked in"):
        read_audio(pipe)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused_with_their_place(tmp_path: Path, value: float) -> None:
    audio = noise(1000, channels=2)
    with pytest.raises(AudioError, match=rf"a\.wav: sample 700 of channel 1 is {value}"):
        write_audio(tmp_path / "a.wav", _spoilt(audio, value), RATE)
    assert not list(tmp_path.iterdir())
    soundfile.write(tmp_path / "a.wav", _spoilt(audio, value).T.numpy(), RATE, subtype="FLOAT")
    for block_samples in (64, 65536):
        with pytest.raises(AudioError, match=rf"a\.wav: sample 700 of channel 1 is {value}, not a finite number"):
            list(read_blocks(tmp_path / "a.wav", block_samples=block_samples))
    assert read_audio(tmp_path / "a.wav", stop=700)[0].equal(audio[:, :700])


def _spoilt(audio: Tensor, value: float) -> Tensor:
    spoilt = audio.clone()
    spoilt[1, 700] = value
    return spoilt


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff", ".mp3"])
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_never_reads_as_a_shorter_one(extension: str, fraction: float, folder: Path) -> None:
    data = (folder / f"sound{extension}").read_bytes()
    cut = io.BytesIO(data[: int(fraction * len(data))])
    with pytest.raises(AudioError):
        read_audio(cut)


@pytest.mark.parametrize("extension", [".ogg", ".opus"])
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_a_truncated_ogg_file_is_refused_but_for_cuts_between_pages(
    extension: str, fraction: float, folder: Path
) -> None:
    data = (folder / f"sound{extension}").read_bytes()
    size = int(fraction * len(data))
    assume(data[size : size + 4] != b"OggS")
    with pytest.raises(AudioError):
        read_audio(io.BytesIO(data[:size]))


def test_an_ogg_file_cut_between_pages_is_an_ended_recording(tmp_path: Path) -> None:
    data = made_file(tmp_path, ".ogg", 200_000).read_bytes()
    num_samples = read_audio(io.BytesIO(data[: data.rindex(b"OggS")]))[0].shape[1]
    assert 0 < num_samples < 200_000


def test_the_message_about_a_truncated_file_counts_samples(tmp_path: Path) -> None:
    path = made_file(tmp_path, ".wav")
    path.write_bytes(path.read_bytes()[: 44 + 4 * 3000 + 1])
    for read in (inspect_audio, read_audio):
        with pytest.raises(AudioError, match=r"sound\.wav: truncated: header promises 5000 samples, 3000 are there"):
            read(path)


def test_a_damaged_flac_file_is_refused(folder: Path) -> None:
    data = bytearray((folder / "sound.flac").read_bytes())
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(AudioError, match=r"<file object>: (damaged after sample|truncated)"):
        read_audio(io.BytesIO(data))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000])
def test_a_streamed_wav_file_is_read_to_its_end(folder: Path, size: int) -> None:
    data = (folder / "sound.wav").read_bytes()
    whole, _ = read_audio(io.BytesIO(data))
    for riff_size in (0, 36, 0xFFFFFFFF):
        streamed = data[:4] + struct.pack("<I", riff_size) + data[8:40] + struct.pack("<I", size) + data[44:]
        assert read_audio(io.BytesIO(streamed))[0].equal(whole)
        assert inspect_audio(io.BytesIO(streamed)).num_samples == 5000


def test_a_streamed_flac_file_is_counted_and_read(folder: Path) -> None:
    data = bytearray((folder / "sound.flac").read_bytes())
    whole, _ = read_audio(io.BytesIO(data))
    data[21] &= 0xF0  # the 36-bit number of samples, 0: unknown
    data[22:26] = bytes(4)
    assert inspect_audio(io.BytesIO(data)).num_samples == 5000
    assert read_audio(io.BytesIO(data))[0].equal(whole)
    assert read_audio(io.BytesIO(data), start=1234, stop=4321)[0].equal(whole[:, 1234:4321])
    with pytest.raises(AudioError, match="damaged after sample"):
        read_audio(io.BytesIO(data[:-100]))


def test_an_empty_wav_file_with_something_after_its_samples_stays_empty(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", torch.zeros(1, 0), RATE)
    data = (tmp_path / "a.wav").read_bytes() + b"LIST\x04\x00\x00\x00abcd"
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert read_audio(io.BytesIO(data))[0].shape == (1, 0)


def test_rf64_and_big_endian_wav_files(tmp_path: Path) -> None:
    audio = noise(500, channels=2)
    for name, options in (("a.wav", {"format": "RF64"}), ("b.wav", {"format": "WAV", "endian": "BIG"})):
        soundfile.write(tmp_path / name, audio.T.numpy(), RATE, subtype="FLOAT", **options)
        assert read_audio(tmp_path / name)[0].equal(audio)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-8])
        with pytest.raises(AudioError, match="promises 500 samples, 499 are there"):
            read_audio(tmp_path / name)


# ---- MP3 without a count of its frames


def mp3_frames(data: bytes) -> list[bytes]:
    """The frames of an MPEG 1 or 2 layer III stream; ISO 11172-3, the tables for 128 kbit/s and below written out."""
    frames, position = [], 0
    while position < len(data):
        first = data[position + 1] >> 3 & 1  # MPEG 1
        table = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if not first:
            table = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
        rate = (44100, 48000, 32000)[data[position + 2] >> 2 & 3] // (1 if first else 2)
        padding = data[position + 2] >> 1 & 1
        size = (144 if first else 72) * table[(data[position + 2] >> 4) - 1] * 1000 // rate + padding
        frames.append(data[position : position + size])
        position += size
    return frames


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_stream_of_changing_bit_rate_is_read_to_its_end(tmp_path: Path, sample_rate: int, channels: int) -> None:
    """libsndfile by itself takes the first frame's bit rate for all, and stops early, or promises too much."""
    loud, silent = noise(sample_rate, channels=channels), torch.zeros(channels, sample_rate)
    for parts in ([loud, silent], [silent, loud]):
        audio = torch.cat(parts, dim=1)
        soundfile.write(tmp_path / "a.mp3", audio.T.numpy(), sample_rate, bitrate_mode="VARIABLE")
        with_count, _ = read_audio(tmp_path / "a.mp3")
        assert with_count.shape == audio.shape
        frames = mp3_frames((tmp_path / "a.mp3").read_bytes())
        assert b"Xing" in frames[0]
        tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
        for stream in (b"".join(frames[1:]), tag + b"".join(frames[1:]) + b"TAG" + bytes(125)):
            without, _ = read_audio(io.BytesIO(stream))
            frame_samples = 1152 if sample_rate > 24000 else 576
            assert 0 <= frame_samples * (len(frames) - 1) - without.shape[1] < 1152  # less the decoder's own delay
            assert inspect_audio(io.BytesIO(stream)).num_samples == without.shape[1]
            shift = 576  # LAME's delay, which the frame with the count tells
            assert without[:, shift:][:, : audio.shape[1]].sub(with_count).abs().max() < 1e-4


def test_an_mp3_stream_without_a_count_may_end_anywhere(tmp_path: Path) -> None:
    stream = b"".join(mp3_frames(made_file(tmp_path, ".mp3", 20000).read_bytes())[1:])
    whole, _ = read_audio(io.BytesIO(stream))
    part, _ = read_audio(io.BytesIO(stream[: len(stream) // 2]))
    assert 0 < part.shape[1] < whole.shape[1]
    assert part[:, :5000].equal(whole[:, :5000])


# ---- writing


def test_blocks_make_the_same_file_as_the_whole(tmp_path: Path) -> None:
    audio = noise(40000, channels=2) * 8
    for extension in (*LOSSLESS, ".mp3", ".opus"):
        whole = write_audio(tmp_path / f"whole{extension}", audio, RATE)
        with AudioWriter(tmp_path / f"blocks{extension}", RATE, 2) as writer:
            for block in audio.split(16384, dim=1):
                writer.write(block)
        assert (writer.num_samples, writer.num_clipped) == (40000, whole)
        assert read_audio(tmp_path / f"blocks{extension}")[0].equal(read_audio(tmp_path / f"whole{extension}")[0])


def test_long_blocks_do_not_break_the_vorbis_encoder(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.ogg", torch.zeros(2, 2_000_000), RATE)
    assert inspect_audio(tmp_path / "a.ogg").num_samples == 2_000_000


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = made_file(tmp_path, ".wav")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"), AudioWriter(path, RATE, 1) as writer:
        writer.write(noise(100))
        raise RuntimeError("stop")
    refusal = r"a block is \(1, T\), and this has shape \(2, 5\)"
    with pytest.raises(AudioError, match=refusal), AudioWriter(path, RATE, 1) as writer:
        writer.write(noise(5, channels=2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["sound.wav"]
    assert path.read_bytes() == before


def test_the_file_is_not_there_before_it_is_complete(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "a.flac", RATE, 1) as writer:
        writer.write(noise(100))
        assert not (tmp_path / "a.flac").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.flac"]


@pytest.mark.parametrize(
    ("name", "sample_rate", "shape", "subtype", "message"),
    [
        ("a.xyz", RATE, (1, 5), None, r"a\.xyz: cannot write '\.xyz'; the extensions are \.wav, \.flac"),
        ("a.opus", 44100, (1, 5), None, r"a\.opus: the sample rate is 44100 Hz, and \.opus takes one of \(8000, "),
        ("a.mp3", 96000, (1, 5), None, r"a\.mp3: the sample rate is 96000 Hz"),
        ("a.wav", 0, (1, 5), None, "takes a positive number of Hz"),
        ("a.wav", RATE, (0, 5), None, "0 channels were asked for"),
        ("a.wav", RATE, (1, 1, 5), None, r"is \(T,\) or \(C, T\), and this has shape \(1, 1, 5\)"),
        ("a.wav", RATE, (1, 5), "PCM_17", "WAV has no subtype 'PCM_17'; it has PCM_16"),
        ("a.flac", RATE, (1, 0), None, r"a\.flac: \.flac cannot hold zero samples; write \.wav"),
        ("a.mp3", RATE, (1, 0), None, "cannot hold zero samples"),
        ("a.opus", RATE, (1, 0), None, "cannot hold zero samples"),
        ("none/a.wav", RATE, (1, 5), None, r"a\.wav: there is no folder .*none to write it to"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, sample_rate: int, shape: tuple[int, ...], subtype: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / name, torch.zeros(shape), sample_rate, subtype=subtype)
    assert not list(tmp_path.iterdir())


def test_integers_are_not_taken_for_samples_in_minus_one_to_one(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"samples are int16, and floats in \[-1, 1\] are wanted"):
        write_audio(tmp_path / "a.wav", np.zeros(5, np.int16), RATE)


def test_more_than_a_wav_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqaudio.io.WAV_LIMIT_BYTES", 1000)
    with pytest.raises(AudioError, match=r"WAV holds at most 4 GiB, and this is more; write \.flac"):
        write_audio(tmp_path / "a.wav", torch.zeros(501), RATE)
    write_audio(tmp_path / "a.flac", torch.zeros(501), RATE)


@pytest.mark.parametrize("num_samples", [3_000, 160_000])
@pytest.mark.parametrize("extension", LOSSLESS + LOSSY)
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path, extension: str, num_samples: int) -> None:
    """Also where it fills up as the encoder gives out its last block, when libsndfile says nothing."""
    resource = pytest.importorskip("resource")
    path = tmp_path / f"sound{extension}"
    write_audio(path, noise(num_samples), RATE)
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)  # Python ignores the signal that goes with it
    for limit in (0, len(whole) // 2, len(whole) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(AudioError, match=rf"sound\{extension}: cannot be written \(File too large\)"):
                write_audio(path, noise(num_samples), RATE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole and [each.name for each in tmp_path.iterdir()] == [path.name]


def test_arrays_of_any_layout_are_written(tmp_path: Path) -> None:
    audio = noise(500)[0].numpy()
    forms = [audio[::-1].copy()[::-1], audio.astype(">f4"), audio.astype(np.float64), torch.from_numpy(audio)]
    forms += [torch.view_as_complex(torch.from_numpy(np.stack([audio, -audio], axis=1))).conj().imag]  # a negative bit
    for number, form in enumerate(forms):
        write_audio(tmp_path / f"{number}.wav", form, np.int64(RATE))
        torch.testing.assert_close(
            read_audio(tmp_path / f"{number}.wav")[0][0], torch.from_numpy(audio), atol=2**-15, rtol=0
        )
    write_audio(tmp_path / "coarse.wav", torch.from_numpy(audio).bfloat16(), RATE)
    torch.testing.assert_close(read_audio(tmp_path / "coarse.wav")[0][0], torch.from_numpy(audio), atol=2**-8, rtol=0)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (None, RATE, "audio to write is an array or a tensor of floats, not NoneType"),
        ([[0.0, 0.1], [0.2]], RATE, "audio to write is an array or a tensor"),
        (np.zeros(3, complex), RATE, "audio to write is an array or a tensor of floats, not ndarray"),
        (np.zeros(3), 16_000.0, r"the sample rate is 16000\.0; wanted is a whole number of Hz"),
    ],
)
def test_what_is_no_audio_is_refused_with_the_name(tmp_path: Path, audio: Any, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=rf"a\.wav: {message}"):
        write_audio(tmp_path / "a.wav", audio, rate)


def test_a_pipe_cannot_be_read_and_is_named(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(AudioError, match=rf"^/dev/fd/{reading}: cannot be seeked in"):
            inspect_audio(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)
