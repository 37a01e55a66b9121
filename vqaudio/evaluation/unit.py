"""The unit of work: one recording through one system, all its points scored."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vqaudio.dsp import mix_down
from vqaudio.evaluation.decoded import DecodedFolder
from vqaudio.evaluation.edges import cut_in_mid_sound
from vqaudio.evaluation.measures import Measure
from vqaudio.evaluation.model import ModelSystem
from vqaudio.evaluation.recordings import Recording, file_sha256
from vqaudio.evaluation.results import Row
from vqaudio.evaluation.rules import as_heard
from vqaudio.evaluation.scoring import score
from vqaudio.evaluation.systems import Decoded, System
from vqaudio.io import read_audio

LENGTH_TOLERANCE_SECONDS = 0.05  # an estimate that is longer or shorter by more is no reconstruction of the whole


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What came of it. `failed` says why there are no rows."""

    system: str
    path: str
    sha256: str = ""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    codes: list[list[int]] | None = None  # (K, N)
    edges: dict[str, float] | None = None
    failed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_unit(recording: Recording, system: System, scoring_rate: int, measures: Sequence[Measure]) -> Unit:
    """Never raises for what a recording or a system cannot do: that is in the unit."""
    digest, seconds = "", 0.0
    try:
        digest = file_sha256(recording.file)
        audio, sample_rate = read_audio(recording.file)
        if audio.shape[-1] == 0:
            raise ValueError("holds no samples")
        audio = mix_down(audio)  # (1, T)
        seconds = audio.shape[-1] / sample_rate
        reference = as_heard(audio, sample_rate, scoring_rate)
        if isinstance(system, DecodedFolder):
            reconstruction = system.decoded(recording.path, reference, scoring_rate)
        else:
            reconstruction = system.reconstruct(audio, sample_rate)
        rows = []
        for decoded in reconstruction.decoded:
            estimate = as_heard(decoded.audio, decoded.sample_rate, scoring_rate, length=reference.shape[-1])
            scores = score(estimate, reference, scoring_rate, [each for each in measures if each.wants(digest)])
            row: Row = {
                "path": recording.path,
                "sha256": digest,
                "speaker": recording.speaker,
                "kind": recording.kind,
                "seconds": round(seconds, 4),
                "system": system.name,
                "point": decoded.point.name,
                "bits": decoded.num_bits,
                "kbps": None if decoded.num_bits is None else round(decoded.num_bits / seconds / 1000, 4),
                "encode_seconds": _rounded(decoded.encode_seconds),
                "decode_seconds": _rounded(decoded.decode_seconds),
                "values": scores.values,
                "unscored": scores.unscored,
                "problems": [*decoded.problems, *_length_problem(decoded, seconds)],
            }
            rows.append(row)
        edges = None
        if isinstance(system, ModelSystem):  # with the last point's estimate, of the most codebooks
            number = decoded.point.codebooks
            edges = cut_in_mid_sound(system.tokenizer, estimate, reference, scoring_rate, num_codebooks=number)
        codes = None if reconstruction.codes is None else reconstruction.codes.tolist()
        return Unit(
            system=system.name,
            path=recording.path,
            sha256=digest,
            seconds=seconds,
            rows=rows,
            codes=codes,
            edges=edges,
        )
    except Exception as error:  # torch tells of memory that it cannot get by RuntimeError, and others by their own
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if not isinstance(error, (ValueError, OSError)):
            reason = f"{type(error).__name__}: {reason}"
        # The file is named by the path it is listed with: results do not say where on a disk they were made.
        reason = " ".join(reason.replace(str(recording.file), recording.path).split())
        return Unit(system=system.name, path=recording.path, sha256=digest, seconds=seconds, failed=reason)


def _length_problem(decoded: Decoded, seconds: float) -> list[str]:
    got = decoded.audio.shape[-1] / decoded.sample_rate
    if abs(got - seconds) <= LENGTH_TOLERANCE_SECONDS:
        return []
    return [f"the estimate is {got:.3f} s long and the recording {seconds:.3f} s; it was cut or padded at its end"]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
