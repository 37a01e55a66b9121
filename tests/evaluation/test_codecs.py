"""Other codecs and bounds: in time with the recording, as long as it, with the bits they really take."""

import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from vqaudio.dsp import mel_filterbank, mix_down, resample, resampled_length
from vqaudio.evaluation.bounds import GriffinLim, MuLaw, Pcm, Resampled, mu_law_decode, mu_law_encode
from vqaudio.evaluation.codecs import WITH_DEFAULTS, Codec2, CommandCodec, mp3, opus, reference_systems, system_from
from vqaudio.evaluation.decoded import shift
from vqaudio.evaluation.programs import missing_programs, mp3_bits, ogg_packet_sizes, opus_bits, run_program
from vqaudio.evaluation.systems import System
from vqaudio.io import read_audio

PROGRAMS = {
    "opus": ("opusenc", "opusdec"),
    "codec2": ("c2enc", "c2dec"),
    "vorbis": ("oggenc", "oggdec"),
    "mp3": ("lame",),
}


def needs(name: str) -> pytest.MarkDecorator:
    reason = missing_programs(PROGRAMS.get(name, ()), f"what brings {name}")
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def with_marks(names: tuple[str, ...]) -> list[object]:
    """Texts for `system_from`, skipped where their program is not installed."""
    return [pytest.param(name, marks=needs(name.partition("@")[0])) for name in names]


EVERY_SYSTEM = with_marks(
    ("opus@6,24", "codec2@3200,700C", "vorbis@-1,5", "mp3@32", "mu-law", "pcm", "resampled@8000", "griffin-lim")
)


@pytest.fixture(autouse=True)
def private_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def speech(samples_folder: Path) -> tuple[Tensor, int]:
    return read_audio(samples_folder / "english-1.flac", stop=3 * 16000)


@pytest.fixture
def music(samples_folder: Path) -> tuple[Tensor, int]:
    audio, sample_rate = read_audio(samples_folder / "music.ogg", stop=3 * 44100)
    return mix_down(audio), sample_rate


# ---- what every system keeps to


@pytest.mark.parametrize("text", EVERY_SYSTEM)
def test_every_point_has_the_recordings_length_at_its_own_rate(text: str, music: tuple[Tensor, int]) -> None:
    audio, sample_rate = music
    audio = audio[:, :50_003]
    system = system_from(text)
    assert system.missing() is None
    decoded = system.reconstruct(audio, sample_rate).decoded
    assert tuple(one.point for one in decoded) == system.points
    for one in decoded:
        assert one.audio.shape == (1, resampled_length(50_003, sample_rate, one.sample_rate))
        assert one.audio.dtype == torch.float32 and torch.isfinite(one.audio).all()
        level = one.audio.square().mean().sqrt() / audio.square().mean().sqrt()
        assert 0.1 < level < 2, one.point.name
        assert (one.num_bits is None) == (system.kind == "bound" and system.name != "pcm")
        assert (one.encode_seconds is not None) == (system.name in PROGRAMS)
        assert one.problems == ()


@pytest.mark.parametrize("text", EVERY_SYSTEM)
@pytest.mark.parametrize("num_samples", [1, 100])
def test_recordings_of_a_sample_and_of_a_hundred(text: str, num_samples: int) -> None:
    audio = 0.1 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(0))
    for one in system_from(text).reconstruct(audio, 16000).decoded:
        assert one.audio.shape == (1, resampled_length(num_samples, 16000, one.sample_rate))
        assert torch.isfinite(one.audio).all()


@pytest.mark.parametrize("text", EVERY_SYSTEM)
def test_silence_stays_all_but_silent(text: str) -> None:
    for one in system_from(text).reconstruct(torch.zeros(1, 8000), 16000).decoded:
        assert one.audio.abs().max() < 0.01, one.point.name


@pytest.mark.parametrize("text", EVERY_SYSTEM)
def test_a_system_travels_to_another_process_and_gives_the_same_there(text: str, speech: tuple[Tensor, int]) -> None:
    system = system_from(text)
    copy = pickle.loads(pickle.dumps(system))
    assert copy == system and hash(copy) == hash(system) and copy.about() == system.about()
    first, second = (each.reconstruct(speech[0][:, :8000], speech[1]).decoded for each in (system, copy))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.audio, other.audio) and one.num_bits == other.num_bits


@pytest.mark.parametrize("text", ["mu-law", "pcm", "resampled", "griffin-lim", *with_marks(("opus", "codec2"))])
@pytest.mark.parametrize("audio", [torch.zeros(1, 0), torch.zeros(2, 9), torch.zeros(9), torch.full((1, 9), torch.nan)])
def test_what_is_no_recording_is_refused(text: str, audio: Tensor) -> None:
    with pytest.raises(ValueError, match=r"a recording is \(1, T\)|not finite"):
        system_from(text).reconstruct(audio, 16000)


@pytest.mark.parametrize("text", with_marks(("opus@6", "codec2@1300", "vorbis@2", "mp3@32")))
def test_nothing_is_left_in_the_temporary_folder(text: str, private_temporary_folder: Path) -> None:
    system_from(text).reconstruct(torch.zeros(1, 4000), 16000)
    assert list(private_temporary_folder.iterdir()) == []


# ---- in time


def lag_seconds(estimate: Tensor, rate: int, audio: Tensor, sample_rate: int, reach: float) -> float:
    """How much later the estimate is, by the cross-correlation of the waveforms, at 48 kHz."""
    one, other = resample(estimate, rate, 48000)[0], resample(audio, sample_rate, 48000)[0]
    T = min(len(one), len(other))
    found = shift(one[:T].double(), other[:T].double(), round(reach * 48000))
    assert found is not None, "the waveforms are too different"
    return found / 48000


@pytest.mark.parametrize(
    "text", with_marks(("opus@8,24", "vorbis@5", "mp3@16,32,64", "mu-law", "pcm", "resampled@8000"))
)
@pytest.mark.parametrize("clip", ["speech", "music"])
def test_waveforms_come_out_when_they_went_in(text: str, clip: str, request: pytest.FixtureRequest) -> None:
    audio, sample_rate = request.getfixturevalue(clip)
    for one in system_from(text).reconstruct(audio, sample_rate).decoded:
        lag = lag_seconds(one.audio, one.sample_rate, audio, sample_rate, reach=0.1)
        # A sample at 8 kHz is 125 us. libopus is up to 70 us off with its lower layer (SILK), by its resamplers.
        assert abs(lag) <= (100e-6 if "opus" in text else 25e-6), f"{one.point.name}: {1e6 * lag:.0f} us"


def voiced_bursts(seed: int) -> Tensor:
    """Two seconds at 8 kHz of vowel-like bursts that swell and fade: an envelope with one clear place in time."""
    generator = np.random.default_rng(seed)
    audio, seconds = np.zeros(16_000), np.arange(2400) / 8000
    for start in (1000, 5000, 9000, 13_000):
        pitch, burst = generator.uniform(90, 200), np.zeros(2400)
        for harmonic in range(1, int(3400 / pitch)):
            frequency = harmonic * pitch
            level = np.exp(-(((frequency - 500) / 400) ** 2)) + 0.3 * np.exp(-(((frequency - 1500) / 300) ** 2))
            burst += level * np.cos(2 * np.pi * frequency * seconds + harmonic**2)
        audio[start + generator.integers(300) :][:2400] += 0.3 * burst / np.abs(burst).max() * np.hanning(2400)
    return torch.from_numpy(audio + 1e-4 * generator.normal(size=16_000)).float()[None]


def envelope(audio: Tensor) -> Tensor:
    """(1, T) at 8 kHz -> (T,), the square root of the power in 20 ms."""
    power = np.convolve(audio[0].double().square().numpy(), np.hanning(161), "same")
    return torch.from_numpy(np.sqrt(power) - np.sqrt(power).mean())


@needs("codec2")
@pytest.mark.parametrize("mode", ["3200", "2400", "1300", "700C"])
def test_codec2_swells_and_fades_with_the_recording(mode: str) -> None:
    lags = []
    for seed in range(6):
        audio = voiced_bursts(seed)
        estimate = Codec2(modes=(mode,)).reconstruct(audio, 8000).decoded[0].audio
        lag = shift(envelope(estimate), envelope(audio), 800)
        assert lag is not None
        lags.append(lag)
    # Frames of 20 and 40 ms say no more about a single burst. Without its delay taken out it is 150 to 230 late.
    assert abs(np.mean(lags)) <= 24, lags


@needs("codec2")
@pytest.mark.parametrize("mode", ["3200", "1300", "700C"])
def test_codec2_codes_the_end_of_the_recording(mode: str) -> None:
    """Sound up to the last sample: c2enc leaves out a frame that is not full, and the decoder comes late."""
    audio = voiced_bursts(0)[:, : 5000 + 1200]  # to the top of the second burst
    estimate = Codec2(modes=(mode,)).reconstruct(audio, 8000).decoded[0].audio
    assert estimate[:, -80:].square().mean() > 0.1 * audio[:, -80:].square().mean()


# ---- bits


def ogg_page(*lacing: int, body: bytes) -> bytes:
    assert sum(lacing) == len(body)
    return b"OggS" + bytes(22) + bytes([len(lacing), *lacing]) + body


def test_packets_of_a_file_made_by_hand() -> None:
    headers = ogg_page(19, body=b"OpusHead" + bytes(11)) + ogg_page(255, 10, body=b"OpusTags" + bytes(257))
    # 40; 255 + 0; one that goes on: 255 here, 255 + 3 on the next page; 7
    data = headers + ogg_page(40, 255, 0, 255, body=bytes(550)) + ogg_page(255, 3, 7, body=bytes(265))
    assert ogg_packet_sizes(data) == [19, 265, 40, 255, 513, 7]
    assert opus_bits(data) == 8 * (40 + 255 + 513 + 7)
    with pytest.raises(ValueError, match=f"no Ogg page begins at byte {len(data)}"):
        ogg_packet_sizes(data + b"Oops")


def mp3_frame(payload: bytes = b"") -> bytes:
    """MPEG 2, layer III, 64 kbit/s, 16 kHz, mono: 288 bytes, of which 4 are the header and 9 side information."""
    return (bytes([0xFF, 0xF3, 0x88, 0xC4]) + bytes(9) + payload).ljust(288, b"\0")


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"ID3\4\0\0\0\0\1\2" + bytes(130), b"TAG" + bytes(125))])
@pytest.mark.parametrize("header", [b"", b"Info", b"Xing"])
def test_an_mp3_counts_its_sound_only(header: bytes, before: bytes, after: bytes) -> None:
    first = mp3_frame(header) if header else b""
    assert mp3_bits(before + first + 5 * mp3_frame() + after) == 8 * 5 * 288


def test_what_is_no_mp3_is_not_counted() -> None:
    with pytest.raises(ValueError, match="no MP3 frame begins at byte 0"):
        mp3_bits(b"RIFF" + bytes(100))


@needs("opus")
@pytest.mark.skipif(shutil.which("opusinfo") is None, reason="opusinfo is not on the path: install opus-tools")
def test_bits_of_opus_are_those_that_opusinfo_counts(samples_folder: Path) -> None:
    """opusinfo tells the bitrate without overhead, in kbit/s with one decimal."""
    file = samples_folder / "french-2.opus"
    said = subprocess.run(["opusinfo", str(file)], capture_output=True, text=True, check=False).stdout
    without_overhead = float(said.split("w/o overhead: ")[1].split()[0])
    data = file.read_bytes()
    assert opus_bits(data) / 1000 / soundfile.info(file).duration == pytest.approx(without_overhead, abs=0.06)


@pytest.mark.parametrize(
    ("text", "kbps", "tolerance"),
    [
        # opusenc's variable rate follows the recording.
        pytest.param("opus@6", 6.0, 0.25, marks=needs("opus")),
        pytest.param("opus@24", 24.0, 0.25, marks=needs("opus")),
        # Exact but for the frames of the silence that the end is filled up with, at most 0.06 s.
        pytest.param("codec2@3200", 3.2, 0.03, marks=needs("codec2")),
        pytest.param("codec2@2400", 2.4, 0.03, marks=needs("codec2")),
        pytest.param("codec2@1300", 1.3, 0.03, marks=needs("codec2")),
        pytest.param("codec2@700C", 0.7, 0.03, marks=needs("codec2")),
        pytest.param("mp3@64", 64.0, 0.1, marks=needs("mp3")),
        ("mu-law", 64.0, 0.0),
        ("pcm", 256.0, 0.0),
    ],
)
def test_rates_are_what_the_setting_says(text: str, kbps: float, tolerance: float, speech: tuple[Tensor, int]) -> None:
    num_bits = system_from(text).reconstruct(*speech).decoded[0].num_bits
    assert num_bits is not None
    assert num_bits / 3000 == pytest.approx(kbps, rel=tolerance, abs=1e-9)


# ---- bounds and G.711


def test_mu_law_is_g711_code_for_code() -> None:
    """Every 16-bit value against libsndfile's G.711, every code back."""
    everything = np.arange(-32768, 32768).astype(np.int16)
    with tempfile.TemporaryFile() as file:
        soundfile.write(file, everything, 8000, format="RAW", subtype="ULAW")
        file.seek(0)
        expected = np.frombuffer(file.read(), np.uint8)
    assert np.array_equal(mu_law_encode(everything), expected)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)))
        file.seek(0)
        back, _ = soundfile.read(file, dtype="int16", format="RAW", subtype="ULAW", samplerate=8000, channels=1)
    assert np.array_equal(mu_law_decode(np.arange(256, dtype=np.uint8)), back)


def test_mu_law_keeps_38_db_of_what_it_can_hold(speech: tuple[Tensor, int]) -> None:
    at_8_khz = resample(speech[0], speech[1], 8000)
    estimate = MuLaw().reconstruct(at_8_khz, 8000).decoded[0].audio
    noise = (estimate - at_8_khz).square().mean()
    assert 30 < 10 * torch.log10(at_8_khz.square().mean() / noise) < 40  # 14-bit companding: 38 dB at best


def test_resampling_keeps_what_is_below_the_rate_and_nothing_above() -> None:
    seconds = torch.arange(48_000) / 48_000
    low, high = (0.3 * torch.sin(2 * torch.pi * hz * seconds)[None] for hz in (1000, 6000))
    narrow, wide, same = Resampled(rates=(8000, 16000, 48000)).reconstruct(low + high, 48000).decoded
    middle = slice(4800, -4800)
    assert torch.allclose(narrow.audio[:, middle], low[:, middle], atol=1e-3)
    assert torch.allclose(wide.audio[:, middle], (low + high)[:, middle], atol=1e-3)
    assert torch.equal(same.audio, low + high)


def test_pcm_is_within_half_a_step_and_clips() -> None:
    audio = torch.tensor([[0.0, 0.3, -0.7, 1.5, -2.0]])
    estimate = Pcm().reconstruct(audio, 8000).decoded[0].audio
    assert torch.allclose(estimate[:, :3], audio[:, :3], atol=0.5 / 32768)
    assert estimate[0, 3:].tolist() == [32767 / 32768, -1.0]


def test_griffin_lim_finds_the_mels_and_not_the_waveform(speech: tuple[Tensor, int]) -> None:
    audio, sample_rate = speech
    estimate = GriffinLim().reconstruct(audio, sample_rate).decoded[0].audio
    mels = mel_filterbank(sample_rate=sample_rate, fft_size=1024, num_mels=80)
    powers = [
        mels @ torch.stft(x, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs()[0]
        for x in (estimate, audio)
    ]
    assert (powers[0] - powers[1]).norm() / powers[1].norm() < 0.12
    correlation = torch.corrcoef(torch.cat([estimate, audio]))[0, 1]
    assert abs(correlation) < 0.9
    again = GriffinLim().reconstruct(audio, sample_rate).decoded[0].audio
    assert torch.equal(again, estimate), "the seed is fixed"
    assert not torch.equal(GriffinLim(seed=1).reconstruct(audio, sample_rate).decoded[0].audio, estimate)
    assert "neither decides alone" in GriffinLim().about()["note"]


# ---- programs that are not there, fail, hang


def test_a_missing_program_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert opus().missing() == "opusenc and opusdec are not on the path: install opus-tools (Debian, Homebrew)"
    assert mp3().missing() == "lame is not on the path: install lame (Debian, Homebrew)"
    for system in reference_systems("speech") + reference_systems("music"):
        assert (system.missing() is None) == (system.name not in PROGRAMS)
        if system.name in PROGRAMS:
            with pytest.raises(ValueError, match="cannot be started: No such file or directory"):
                system.reconstruct(torch.zeros(1, 100), 16000)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a Python script on the path under a name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!{sys.executable}\nimport os, shutil, subprocess, sys, time, wave\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


COPY = "shutil.copy(sys.argv[-2], sys.argv[-1])"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print('first'); sys.exit('no such bitrate\\n')", "opusenc ended with status 1, saying: no such bitrate"),
        ("sys.exit(3)", "opusenc ended with status 3, and wrote nothing"),
        ("os.kill(os.getpid(), 9)", "opusenc ended by signal 9, and wrote nothing"),
        ("time.sleep(60)", r"opusenc did not end within 0\.5 seconds and was stopped"),
    ],
)
def test_a_program_that_fails_or_hangs(
    script: str, message: str, program: Callable[..., Path], private_temporary_folder: Path
) -> None:
    program("opusenc", script)
    began = time.monotonic()
    limit = 0.5 if "sleep" in script else 60
    with pytest.raises(ValueError, match=message):
        replace(opus(), timeout_seconds=limit).reconstruct(torch.zeros(1, 100), 16000)
    assert time.monotonic() - began < 20
    assert list(private_temporary_folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX's")
def test_what_a_hanging_program_started_is_stopped_too(program: Callable[..., Path], tmp_path: Path) -> None:
    """Else a wrapper's codec would go on beside the evaluation. The child holds a pipe, which its end closes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    path = program("parent", f"subprocess.run(['sh', '-c', 'echo alive > {fifo}; exec sleep 60 > {fifo}'])")
    with pytest.raises(ValueError, match="did not end within"):
        run_program([str(path)], timeout_seconds=2)
    end = time.monotonic() + 10
    heard = b""
    while time.monotonic() < end:
        try:
            piece = os.read(reader, 100)
        except BlockingIOError:  # somebody still has it open
            time.sleep(0.05)
            continue
        if not piece:
            break
        heard += piece
    else:
        pytest.fail("the child still runs")
    os.close(reader)
    assert heard == b"alive\n", "the child never began"


def test_settings_and_paths_reach_the_programs(program: Callable[..., Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    note = f"open({str(log)!r}, 'a').write(' '.join([os.path.basename(w) for w in sys.argv]) + '\\n')"
    page = b"OggS" + bytes(22)
    headers = page + bytes([1, 0]) + page + bytes([1, 0])
    coded = f"open(sys.argv[-1], 'wb').write({headers!r} + {page!r} + bytes([1, 9]) + bytes(9))"
    wav = "w = wave.open(sys.argv[-1], 'w'); w.setparams((1, 2, 16000, 0, 'NONE', '')); w.writeframes(bytes(200))"
    program("opusenc", f"{note}; {coded}")
    program("opusdec", f"{note}; {wav}")
    decoded = opus((6, 12.5)).reconstruct(torch.zeros(1, 100), 16000).decoded
    assert log.read_text().splitlines() == [
        "opusenc --quiet --bitrate 6 in.wav coded.opus",
        "opusdec --quiet --float coded.opus out.wav",
        "opusenc --quiet --bitrate 12.5 in.wav coded.opus",
        "opusdec --quiet --float coded.opus out.wav",
    ]
    assert [one.num_bits for one in decoded] == [72, 72]
    assert [one.point.name for one in decoded] == ["opus@6", "opus@12.5"]
    assert [one.point.label for one in decoded] == ["6 kbit/s", "12.5 kbit/s"]
    for one in decoded:
        assert one.encode_seconds is not None and one.decode_seconds is not None
        assert 0.001 < one.encode_seconds < 60 and 0.001 < one.decode_seconds < 60


def test_a_decoder_that_writes_nothing_does_not_give_the_last_points_sound(
    program: Callable[..., Path], tmp_path: Path
) -> None:
    again = str(tmp_path / "again")
    wav = "w = wave.open(sys.argv[-1], 'w'); w.setparams((1, 2, 16000, 0, 'NONE', '')); w.writeframes(bytes(200))"
    program("opusenc", "open(sys.argv[-1], 'wb').close()")
    program("opusdec", f"os.path.exists({again!r}) and sys.exit(); open({again!r}, 'w').close(); {wav}")
    with pytest.raises(ValueError, match="opus@12 left no file"):
        opus((6, 12)).reconstruct(torch.zeros(1, 100), 16000)


@needs("opus")
def test_about_says_versions_and_commands() -> None:
    about = opus().about()
    assert "libopus" in about["programs"]["opusenc"]
    assert about["encode"] == "opusenc --quiet --bitrate {setting} {in} {coded}"
    assert about["settings"] == ["6", "8", "12", "16", "24"]


# ---- any codec by its command


@pytest.fixture
def command(program: Callable[..., Path]) -> Callable[..., CommandCodec]:
    def make(script: str, places: str = "{in} {out}", **more: float) -> CommandCodec:
        path = program("my-codec", script)
        return CommandCodec("mine", f"'{path}' {places}", **more)

    return make


def test_a_command_that_copies_gives_the_recording_rounded_and_clipped(command: Callable[..., CommandCodec]) -> None:
    audio = torch.tensor([[0.25, -0.5, 1.7, -3.0, 1.0]])
    one = command(COPY).reconstruct(audio, 22050).decoded[0]
    assert one.sample_rate == 22050 and one.num_bits is None and one.problems == ()
    assert one.audio.tolist() == [[0.25, -0.5, 32767 / 32768, -1.0, 32767 / 32768]]
    assert one.encode_seconds is None and one.decode_seconds is None


def test_the_coded_files_size_is_its_bits(command: Callable[..., CommandCodec]) -> None:
    codec = command(f"{COPY}; open(sys.argv[1], 'wb').write(bytes(37))", "{coded} {in} {out}")
    assert codec.reconstruct(torch.zeros(1, 500), 16000).decoded[0].num_bits == 296
    with pytest.raises(ValueError, match=r"mine left no file at \{coded\}"):
        command(COPY, "{coded} {in} {out}").reconstruct(torch.zeros(1, 500), 16000)


WRITE = "w = wave.open(sys.argv[-1], 'w'); w.setparams(({channels}, 2, {rate}, 0, 'NONE', '')); w.writeframes({data})"


@pytest.mark.parametrize(
    ("rate", "samples", "problem"),
    [
        (8000, 8000, None),
        (8000, 8001, None),
        (24000, 24500, "24000 Hz was 500 samples longer than the recording and cut"),
        (16000, 15900, "16000 Hz was 100 samples short and filled up"),
    ],
)
def test_other_rates_and_lengths(
    rate: int, samples: int, problem: str | None, command: Callable[..., CommandCodec]
) -> None:
    data = "b'\\x00\\x40' * " + str(samples)
    one = command(WRITE.format(channels=1, rate=rate, data=data)).reconstruct(torch.zeros(1, 16000), 16000).decoded[0]
    assert one.sample_rate == rate and one.audio.shape == (1, rate)
    kept = min(samples, rate)
    assert (one.audio[0, :kept] == 0.5).all() and (one.audio[0, kept:] == 0).all()
    assert one.problems == (() if problem is None else (f"the output of mine at {problem}",))


def test_channels_of_an_output_are_mixed_down(command: Callable[..., CommandCodec]) -> None:
    script = WRITE.format(channels=2, rate=16000, data="b'\\x00\\x40\\x00\\x00' * 200")
    assert command(script).reconstruct(torch.zeros(1, 200), 16000).decoded[0].audio.tolist() == [[0.25] * 200]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", r"mine left no file at \{out\}"),
        ("open(sys.argv[-1], 'w').write('hello')", r"mine: what it left at \{out\} cannot be read: .*no audio file"),
        (WRITE.format(channels=1, rate=16000, data="bytes(2 * 30000)"), "left 30000 samples at 16000 Hz, .* has 16000"),
        (WRITE.format(channels=1, rate=16000, data="bytes(2 * 14000)"), "left 14000 samples at 16000 Hz, .* has 16000"),
        (WRITE.format(channels=1, rate=16000, data="b''"), "left 0 samples"),
        ("sys.exit('cannot read the model')", "my-codec ended with status 1, saying: cannot read the model"),
    ],
)
def test_a_command_that_does_not_do_its_work(
    script: str, message: str, command: Callable[..., CommandCodec], private_temporary_folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        command(script).reconstruct(torch.zeros(1, 16000), 16000)
    assert list(private_temporary_folder.iterdir()) == []


def test_a_command_that_hangs(command: Callable[..., CommandCodec]) -> None:
    with pytest.raises(ValueError, match="my-codec did not end within"):
        command("time.sleep(60)", timeout_seconds=0.5).reconstruct(torch.zeros(1, 100), 16000)


@pytest.mark.parametrize(
    ("name", "template", "message"),
    [
        ("mine", "codec {in}", r"mine: the command has no \{out\}"),
        ("mine", "codec {out}", r"mine: the command has no \{in\}"),
        ("mine", "codec '{in} {out}", "cannot be split into words"),
        ("a/b", "codec {in} {out}", "a codec was named 'a/b'"),
    ],
)
def test_templates_that_cannot_work(name: str, template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CommandCodec(name, template)


def test_a_command_whose_program_is_not_there() -> None:
    codec = CommandCodec("mine", "no-such-program-here {in} {out}")
    assert (
        codec.missing() == "no-such-program-here, the program of mine, is not on the path and no file that can be run"
    )
    with pytest.raises(ValueError, match="no-such-program-here, the program of mine, is not on the path"):
        codec.reconstruct(torch.zeros(1, 100), 16000)


def test_no_shell_sees_the_command(command: Callable[..., CommandCodec], tmp_path: Path) -> None:
    codec = command(COPY, f"'$(touch {tmp_path}/touched)' {{in}} {{out}}")
    codec.reconstruct(torch.zeros(1, 100), 16000)
    assert not (tmp_path / "touched").exists()


# ---- by name


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("opus", ("opus@6", "opus@8", "opus@12", "opus@16", "opus@24")),
        ("opus@6,12", ("opus@6", "opus@12")),
        ("opus@12, 12,8", ("opus@12", "opus@8")),
        ("codec2", ("codec2@3200", "codec2@2400", "codec2@1300", "codec2@700C")),
        ("codec2@3200", ("codec2@3200",)),
        ("codec2@700c", ("codec2@700C",)),
        ("mp3@32,64", ("mp3@32", "mp3@64")),
        ("vorbis", ("vorbis@-1", "vorbis@2", "vorbis@5", "vorbis@8")),
        ("mu-law", ("mu-law@64",)),
        ("resampled@8000", ("resampled@8000",)),
        ("griffin-lim", ("griffin-lim@80",)),
        ("griffin-lim@40", ("griffin-lim@40",)),
    ],
)
def test_systems_by_name(text: str, points: tuple[str, ...]) -> None:
    assert tuple(point.name for point in system_from(text).points) == points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ogus", "no system called 'ogus'; those with a name are " + ", ".join(WITH_DEFAULTS)),
        ("", "no system called ''"),
        ("opus@5", "opus: 5.0 was asked for, and it takes 6 to 256 kbit/s"),
        ("opus@nan", "opus: nan was asked for"),
        ("opus@loud", "opus@loud: settings are numbers after the @"),
        ("opus@", "opus@: settings are numbers after the @"),
        ("codec2@999", "codec2: 999 was asked for, and it takes one of the modes 3200"),
        ("vorbis@11", "vorbis: 11.0 was asked for, and it takes qualities of -1 to 10"),
        ("mp3@33.5", "mp3: 33.5 was asked for, and it takes whole numbers of 8 to 310"),
        ("mp3@inf", "mp3: inf was asked for"),
        ("resampled@0", "resampled: 0 was asked for"),
        ("griffin-lim@0", "griffin-lim: 0 mels were asked for"),
        ("mu-law@64", "mu-law has one setting only; write mu-law"),
    ],
)
def test_names_and_settings_that_do_not_exist(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        system_from(text)
    assert message in str(caught.value)


def test_default_systems_are_told_apart_in_one_table() -> None:
    for systems in (reference_systems("speech"), reference_systems("music")):
        names = [point.name for system in systems for point in system.points]
        assert len(set(names)) == len(names)
        assert {system.kind for system in systems} == {"codec", "bound"}
    assert [system.name for system in reference_systems("speech")] == [
        "opus",
        "codec2",
        "mu-law",
        "resampled",
        "griffin-lim",
    ]
    assert [system.name for system in reference_systems("music")] == [
        "opus",
        "vorbis",
        "mp3",
        "resampled",
        "griffin-lim",
    ]
    assert system_from("opus", kind="music") == reference_systems("music")[0]


def test_every_name_makes_a_system_of_that_name() -> None:
    for name in WITH_DEFAULTS:
        system: System = system_from(name)
        assert system.name == name and system.points and system.label
