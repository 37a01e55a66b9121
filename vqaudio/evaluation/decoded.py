"""A folder of decoded files as a system: whatever made them, they are scored by the same rules.

Files are paired by their path without its ending: REF/a/b.flac with DEC/a/b.wav. What cannot be a pair is named and not
scored: a missing or unreadable file, another length, another recording under the same name.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vqaudio.data.manifest import below
from vqaudio.dsp import mix_down, resample
from vqaudio.evaluation.systems import Decoded, Point, Reconstruction
from vqaudio.io import AUDIO_EXTENSIONS, read_audio

LENGTH_TOLERANCE_SECONDS = 0.1  # codecs add or drop about a frame; more is another recording, or a part of it
LAG_SECONDS = 0.1  # the longest shift that is looked for
MIN_LAG_CORRELATION = 0.5  # of the waveforms at the best shift; below, phase is too different to tell a shift
ENVELOPE_SECONDS = 0.02  # of the frames whose levels are compared
MIN_ENVELOPE_CORRELATION = 0.5  # 4 kbit/s Opus and 700 bit/s Codec2 stay above .8, strangers mostly below .3
MIN_ENVELOPE_DB = 3.0  # standard deviation of the levels; a steady sound has no envelope to compare


@dataclass(frozen=True)
class DecodedFolder:
    """`name` stands for it in results. A file in the place of the folder is the decoded file of any recording."""

    folder: str
    name: str
    kbps: float | None = None  # as its owner says
    kind: Literal["codec"] = field(default="codec", init=False)

    @property
    def label(self) -> str:
        return self.name

    @property
    def points(self) -> tuple[Point, ...]:
        return (Point(name=self.name, label="as given"),)

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        return {"decoded_files": True, "kbps_as_stated": self.kbps}

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        raise TypeError("decoded files are looked up by the path of their reference: call `decoded`")

    def find(self, path: str) -> Path:
        """The decoded file for the recording listed as `path`. ValueError if there is none, or more than one."""
        if Path(self.folder).is_file():
            return Path(self.folder)
        base = Path(self.folder) / below(path).with_suffix("")
        found = [file for file in sorted(base.parent.glob("*")) if file.stem == base.name and _is_audio(file)]
        if not found:
            raise ValueError(f"there is no decoded file for it: {path} would be {base.name}.* in {self.folder}")
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise ValueError(f"there are {len(found)} decoded files for it: {names}")
        return found[0]

    def decoded(self, path: str, reference: Tensor, scoring_rate: int) -> Reconstruction:
        """The file beside `reference` (1, T) at the scoring rate. ValueError for what is no pair."""
        file = self.find(path)
        audio, rate = read_audio(file)
        audio = mix_down(audio)
        problems = check_pair(resample(audio, rate, scoring_rate), reference, scoring_rate)
        if rate < scoring_rate:
            problems.append(
                f"decoded at {rate:,} Hz and scored at {scoring_rate:,} Hz: nothing is above {rate / 2:,.0f} Hz"
            )
        bits = None if self.kbps is None else round(1000 * self.kbps * reference.shape[-1] / scoring_rate)
        decoded = Decoded(point=self.points[0], audio=audio, sample_rate=rate, num_bits=bits, problems=tuple(problems))
        return Reconstruction(decoded=(decoded,))


def check_pair(estimate: Tensor, reference: Tensor, sample_rate: int) -> list[str]:
    """What to know about two signals (1, T) that are said to be of one recording; ValueError if they cannot be."""
    lengths = [signal.shape[-1] / sample_rate for signal in (estimate, reference)]
    if abs(lengths[0] - lengths[1]) > LENGTH_TOLERANCE_SECONDS:
        raise ValueError(f"the decoded file is {lengths[0]:.3f} s long and the recording {lengths[1]:.3f} s: no pair")
    T = min(estimate.shape[-1], reference.shape[-1])
    one, other = estimate[0, :T].double(), reference[0, :T].double()
    alike = _envelope_correlation(one, other, sample_rate)
    if alike is not None and alike < MIN_ENVELOPE_CORRELATION:
        raise ValueError(f"does not sound like its decoded file: their levels correlate by {alike:.2f} only: no pair")
    lag = shift(one, other, round(LAG_SECONDS * sample_rate))
    if not lag:
        return []
    return [f"the decoded file seems to be {abs(lag)} samples {'late' if lag > 0 else 'early'} at {sample_rate:,} Hz"]


def shift(estimate: Tensor, reference: Tensor, longest: int) -> int | None:
    """By how many samples (T,) `estimate` comes later than `reference`, by the peak of their cross-correlation within
    ±`longest`; None where the waveforms are too different to tell."""
    norm = (estimate.square().sum() * reference.square().sum()).sqrt()
    if norm == 0:
        return None
    size = 2 ** (len(estimate) + longest).bit_length()
    spectra = [torch.fft.rfft(signal, size) for signal in (estimate, reference)]
    correlation = torch.fft.irfft(spectra[0] * spectra[1].conj(), size)
    around_zero = torch.cat([correlation[-longest:], correlation[: longest + 1]]) / norm
    best = int(around_zero.argmax())
    return best - longest if around_zero[best] >= MIN_LAG_CORRELATION else None


def _envelope_correlation(one: Tensor, other: Tensor, sample_rate: int) -> float | None:
    """Of the levels in dB, frame by frame; None where either is steady or too short to judge."""
    size = round(ENVELOPE_SECONDS * sample_rate)
    if len(one) < 10 * size:
        return None
    power = [signal.unfold(0, size, size).square().mean(dim=1) for signal in (one, other)]
    levels = [
        10 * (each + 1e-7).log10() for each in power
    ]  # -70 dBFS: below, noise shaping differs from codec to codec
    if min(float(level.std()) for level in levels) < MIN_ENVELOPE_DB:
        return None
    return float(torch.corrcoef(torch.stack(levels))[0, 1])


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in AUDIO_EXTENSIONS and file.is_file()


def unpaired(folder: Path, paths: list[str]) -> list[str]:
    """Audio files below `folder` that no recording in `paths` is the reference of, by their paths below it."""
    known = {below(path).with_suffix("").as_posix() for path in paths}
    files = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if _is_audio(file))
    return [file.as_posix() for file in files if file.with_suffix("").as_posix() not in known]
