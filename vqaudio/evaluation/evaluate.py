"""`evaluate`: systems over recordings, into a folder of results. Killed and called again, it goes on where it was."""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vqaudio.dsp import mix_down
from vqaudio.evaluation.decoded import DecodedFolder
from vqaudio.evaluation.edges import silence_peak_dbfs
from vqaudio.evaluation.journal import Journal, Key
from vqaudio.evaluation.measures import Measure
from vqaudio.evaluation.model import ModelSystem
from vqaudio.evaluation.pool import over_processes
from vqaudio.evaluation.recordings import Recording, Selection, file_sha256, list_sha256
from vqaudio.evaluation.results import CLIPS_NAME, FORMAT, VERSION, Row, Summary, write_results
from vqaudio.evaluation.rules import SCORING_RATES, as_heard, rules
from vqaudio.evaluation.summary import system_entry
from vqaudio.evaluation.systems import System
from vqaudio.evaluation.unit import Unit
from vqaudio.evaluation.versions import machine, versions
from vqaudio.io import read_audio, write_audio

Progress = Callable[[int, int, str], None]  # units done, units in all, what was done last
CLIP_SECONDS = (2.0, 12.0)  # short enough to compare by ear, long enough to hear a voice


@dataclass(frozen=True, kw_only=True)
class Options:
    """How, as opposed to what. None of it changes a value."""

    workers: int = 1  # processes; 0: this one
    clips: int = 4  # recordings whose sound is kept for the report
    progress: Progress | None = None


def evaluate(
    systems: Sequence[System],
    selection: Selection,
    out: str | Path,
    *,
    measures: Sequence[Measure],
    scoring_rate: int | None = None,
    options: Options | None = None,
) -> Summary:
    """Score every system on every recording, write `out` (see `results`) and return its summary.

    The folder may hold an unfinished or finished evaluation under the same conditions: what is done is not done again,
    be it of more systems or more recordings than asked for now. ResultsError if the conditions are others.
    """
    options = options or Options()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rate = scoring_rate or SCORING_RATES[selection.kind]
    measures = [measure for measure in measures if selection.kind in measure.kinds]
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two systems are called {twice!r}; the results could not tell them apart")
    began = time.monotonic()
    problems: list[dict[str, Any]] = []
    hashes = _hashes(selection.recordings, problems)
    able = [system for system in systems if system.missing() is None]
    identities = {
        (system.name, recording.path): f"{identity}{_made_of(system, recording)}"
        for system in able
        for identity in [_identity(system)]
        for recording in selection.recordings
    }
    with Journal(out, _conditions(selection, rate, measures)) as journal:
        _work_off(able, selection.recordings, hashes, identities, journal, rate, measures, options)
        units = {
            system.name: [
                journal.units[key]
                for recording in selection.recordings
                if (key := _key(identities[system.name, recording.path], recording, hashes)) in journal.units
            ]
            for system in able
        }
    good = [recording for recording in selection.recordings if hashes.get(recording.path)]
    summary = _summary(systems, units, selection, rate, measures, hashes)
    summary["problems"] = problems + _problems(units)
    summary["clips"] = _keep_clips(out / CLIPS_NAME, good, able, units, rate, options.clips)
    summary["seconds"] = round(time.monotonic() - began, 1)
    rows: list[Row] = [row for system in able for unit in units[system.name] for row in unit.rows]
    write_results(out, summary, rows)
    return summary


def _work_off(
    systems: Sequence[System],
    recordings: Sequence[Recording],
    hashes: dict[str, str],
    identities: dict[tuple[str, str], str],
    journal: Journal,
    rate: int,
    measures: Sequence[Measure],
    options: Options,
) -> None:
    """The largest recordings first, so that no process is left with one at the end; all systems of one in a row, since
    what is known of a reference is kept for a while."""
    readable = [recording for recording in recordings if hashes.get(recording.path)]
    order = sorted(readable, key=lambda recording: -recording.file.stat().st_size)
    jobs = [
        (recording, system)
        for recording in order
        for system in systems
        if (unit := journal.units.get(_key(identities[system.name, recording.path], recording, hashes))) is None
        or unit.failed  # which may have been the machine's fault
    ]
    total = len(readable) * len(systems)
    done = total - len(jobs)
    if options.progress is not None:
        options.progress(done, total, "")
    for number, unit in over_processes(jobs, rate, measures, workers=options.workers):
        recording, system = jobs[number]
        if not unit.sha256:  # its process died before it could tell
            unit = Unit(system=unit.system, path=unit.path, sha256=hashes[recording.path], failed=unit.failed)
        journal.add(identities[system.name, recording.path], unit)
        done += 1
        if options.progress is not None:
            options.progress(done, total, f"{system.name}: {recording.path}")


def _key(identity: str, recording: Recording, hashes: dict[str, str]) -> Key:
    return identity, recording.path, hashes.get(recording.path, "")


def _identity(system: System) -> str:
    """Name and facts: a model that was trained on, or another version of a program, is another system."""
    facts = json.dumps([system.about(), [point.name for point in system.points]], sort_keys=True, default=str)
    return f"{system.name} {hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _made_of(system: System, recording: Recording) -> str:
    """The hash of the decoded file, if there is one: replaced or added, it is scored anew."""
    if not isinstance(system, DecodedFolder):
        return ""
    try:
        return f" {file_sha256(system.find(recording.path))}"
    except (ValueError, OSError):  # that it is not there, or cannot be read, is said when it is scored
        return ""


def _hashes(recordings: Sequence[Recording], problems: list[dict[str, Any]]) -> dict[str, str]:
    """Path -> SHA-256 of what can be read; what cannot is a problem, and no recording of this evaluation."""
    hashes: dict[str, str] = {}
    for recording in recordings:
        try:
            hashes[recording.path] = file_sha256(recording.file)
        except OSError as error:
            problems.append({"path": recording.path, "what": f"cannot be read ({error.strerror})", "failed": True})
    return hashes


def _conditions(selection: Selection, rate: int, measures: Sequence[Measure]) -> dict[str, Any]:
    """What values depend on besides system and recording."""
    return {
        "rules": rules(selection.kind, rate),
        "measures": sorted(value.name for measure in measures if measure.missing is None for value in measure.values),
        "one_in": _thinned(measures),
        "versions": versions(measures),
    }


def _thinned(measures: Sequence[Measure]) -> dict[str, int]:
    return {value.name: measure.one_in for measure in measures if measure.one_in > 1 for value in measure.values}


def _summary(
    systems: Sequence[System],
    units: dict[str, list[Unit]],
    selection: Selection,
    rate: int,
    measures: Sequence[Measure],
    hashes: dict[str, str],
) -> Summary:
    seconds = {unit.path: unit.seconds for found in units.values() for unit in found}
    listed = [(recording.path, hashes.get(recording.path, "")) for recording in selection.recordings]
    speakers = {recording.speaker for recording in selection.recordings if recording.speaker}
    entries = []
    for system in systems:
        entry = system_entry(system, units.get(system.name, []), [m for m in measures if m.missing is None])
        if isinstance(system, ModelSystem):
            entry["silence_peak_dbfs"] = silence_peak_dbfs(system.tokenizer)
        entries.append(entry)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": {
            "name": selection.source.name,
            "split": selection.split,
            "kind": selection.kind,
            "files": len(selection.recordings),
            "seconds": round(sum(seconds.values()), 1),
            "speakers": len(speakers),
            "list_sha256": list_sha256(listed),
        },
        "rules": rules(selection.kind, rate),
        "machine": machine(),
        "versions": versions(measures),
        "measures": [
            {
                "name": value.name,
                "label": value.label,
                "better": value.better,
                "decimals": value.decimals,
                "unit": value.unit,
                "note": value.note,
            }
            for measure in measures
            for value in measure.values
        ],
        "one_in": _thinned(measures),
        "not_measured": {
            value.name: measure.missing
            for measure in measures
            if measure.missing is not None
            for value in measure.values
        },
        "systems": entries,
    }


def _problems(units: dict[str, list[Unit]]) -> list[dict[str, Any]]:
    """What went wrong, by recording; what is the same with every system is said once."""
    said: dict[tuple[str, str, bool], list[str]] = {}
    for name, found in units.items():
        for unit in found:
            texts = []
            for row in unit.rows:
                texts += row["problems"]
                reasons = Counter(row["unscored"].values())
                for reason, count in reasons.items():
                    names = [key for key, other in row["unscored"].items() if other == reason]
                    texts.append(reason if count == len(row["unscored"]) > 1 else f"{', '.join(names)}: {reason}")
            for text in dict.fromkeys(texts):
                said.setdefault((unit.path, text, False), []).append(name)
            if unit.failed:
                said.setdefault((unit.path, unit.failed, True), []).append(name)
    everyone = list(units)
    return [
        {"path": path, "what": what if names == everyone else f"{', '.join(names)}: {what}", "failed": failed}
        for (path, what, failed), names in said.items()
    ]


def _keep_clips(
    folder: Path,
    recordings: Sequence[Recording],
    systems: Sequence[System],
    units: dict[str, list[Unit]],
    rate: int,
    number: int,
) -> list[dict[str, Any]]:
    """The sound of some recordings at every point, as 16-bit FLAC at the scoring rate, and the codes of models."""
    seconds = {unit.path: unit.seconds for found in units.values() for unit in found if not unit.failed}
    low, high = CLIP_SECONDS
    fitting = [recording for recording in recordings if low <= seconds.get(recording.path, 0) <= high]
    fitting = fitting or [recording for recording in recordings if 0 < seconds.get(recording.path, 0) <= 60]
    chosen = [fitting[i * len(fitting) // number] for i in range(number)] if len(fitting) > number else fitting
    for old in folder.glob("clip-*"):  # of an evaluation before, which may have had more
        shutil.rmtree(old)
    clips = []
    for position, recording in enumerate(chosen[:number], start=1):
        place = folder / f"clip-{position}"
        place.mkdir(parents=True)
        audio, own_rate = read_audio(recording.file)
        audio = mix_down(audio)
        reference = as_heard(audio, own_rate, rate)
        write_audio(place / "reference.flac", reference, rate)
        for system in systems:
            try:
                if isinstance(system, DecodedFolder):
                    made = system.decoded(recording.path, reference, rate)
                else:
                    made = system.reconstruct(audio, own_rate)
            except Exception:  # it is among the problems already
                continue
            for decoded in made.decoded:
                estimate = as_heard(decoded.audio, decoded.sample_rate, rate, length=reference.shape[-1])
                write_audio(place / f"{decoded.point.name}.flac", estimate, rate)
            if isinstance(system, ModelSystem):
                with torch.inference_mode():
                    system.tokenizer.encode(audio, own_rate).save(place / f"{system.name}.vqt")
        clips.append(
            {
                "name": place.name,
                "path": recording.path,
                "speaker": recording.speaker,
                "kind": recording.kind,
                "seconds": round(seconds[recording.path], 2),
            }
        )
    return clips


def usable_cores() -> int:
    """Processes that can work side by side here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
