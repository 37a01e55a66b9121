"""Systems over recordings, into a folder: every value, once, whatever happens in between."""

import gzip
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation import parts
from tests.tiny import save_tiny
from vqaudio.evaluation.evaluate import Options, evaluate
from vqaudio.evaluation.model import ModelSystem, numbers_of_codebooks
from vqaudio.evaluation.recordings import Recording, Selection, select
from vqaudio.evaluation.results import JOURNAL_NAME, ResultsError, is_evaluation, read_rows, read_summary
from vqaudio.evaluation.unit import evaluate_unit
from vqaudio.io import read_audio, write_audio

HERE = Options(workers=0, clips=0)
RATE = 1_600


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    """Five recordings, of which one is silent and one is no audio file."""
    folder = tmp_path / "corpus"
    for number, (speaker, level) in enumerate([("anna", 0.4), ("anna", 0.8), ("ben", 0.2), ("ben", 0.0)]):
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        write_audio(folder / speaker / f"{number}.wav", parts.tone(2.0 + number, RATE, level), RATE)
    (folder / "bad.wav").write_text("this is no audio")
    return select(folder)


def run(selection: Selection, out: Path, *systems: Any, **options: Any) -> dict[str, Any]:
    return evaluate(
        systems,
        selection,
        out,
        measures=[parts.ERROR, parts.MISSING],
        scoring_rate=RATE,
        options=replace(HERE, **options),
    )


def test_every_value_of_every_recording(selection: Selection, tmp_path: Path) -> None:
    summary = run(selection, tmp_path / "out", parts.Attenuator(), parts.Absent("absent"))
    rows = read_rows(tmp_path / "out")
    assert read_summary(tmp_path / "out") == summary and is_evaluation(tmp_path / "out")
    values = {(row["path"], row["point"]): row["values"].get("error") for row in rows}
    assert values == {
        ("anna/0.wav", "attenuator@0.5"): pytest.approx(0.2, abs=1e-3),
        ("anna/0.wav", "attenuator@0.25"): pytest.approx(0.3, abs=1e-3),
        ("anna/1.wav", "attenuator@0.5"): pytest.approx(0.4, abs=1e-3),
        ("anna/1.wav", "attenuator@0.25"): pytest.approx(0.6, abs=1e-3),
        ("ben/2.wav", "attenuator@0.5"): pytest.approx(0.1, abs=1e-3),
        ("ben/2.wav", "attenuator@0.25"): pytest.approx(0.15, abs=1e-3),
        ("ben/3.wav", "attenuator@0.5"): None,
        ("ben/3.wav", "attenuator@0.25"): None,
    }
    attenuator, absent = summary["systems"]
    first, second = attenuator["points"]
    assert first["values"]["error"]["mean"] == pytest.approx((0.2 + 0.4 + 0.1) / 3, abs=1e-3)
    assert first["values"]["error"]["files"] == 3 and first["files"] == 4  # silence is not in the mean
    assert first["unscored"] == {"error": {"the recording is silent": 1}}
    assert first["kbps"] == second["kbps"] == 6.4  # four bits a sample
    assert absent["not_measured"] == "absent: install the package absent-tools" and absent["points"] == []
    assert summary["not_measured"] == {"gone": "gone is not installed"} and "gone" not in first["values"]
    assert summary["data"] | {"list_sha256": ""} == {
        "name": "corpus",
        "split": None,
        "kind": "speech",
        "files": 5,
        "seconds": 14.0,
        "speakers": 2,
        "list_sha256": "",
    }
    problems = {problem["path"]: problem["what"] for problem in summary["problems"]}
    assert set(problems) == {"bad.wav", "ben/3.wav"}
    assert problems["bad.wav"].startswith("bad.wav: is no audio file") and str(tmp_path) not in json.dumps(summary)
    assert problems["ben/3.wav"] == "error: the recording is silent"


def test_interrupted_it_goes_on_and_nothing_is_done_twice(selection: Selection, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with pytest.raises(KeyboardInterrupt):
        run(selection, tmp_path / "out", parts.Attenuator(log=str(log), dies_after=2))
    assert log.read_text() == ".." and not is_evaluation(tmp_path / "out")
    with (tmp_path / "out" / JOURNAL_NAME).open("a") as journal:
        journal.write('{"system": "attenuator", "unit": {"sys')  # killed in the middle of a line
    run(selection, tmp_path / "out", parts.Attenuator(log=str(log)))
    assert log.read_text() == "...."
    run(selection, tmp_path / "never", parts.Attenuator())
    rows = read_rows(tmp_path / "never")
    assert read_rows(tmp_path / "out") == rows
    plain = tmp_path / "never/files.jsonl"
    plain.with_name("files.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert read_rows(tmp_path / "never") == rows
    # More systems and more recordings add to it; another system under the same name does not pass for the old one.
    run(selection, tmp_path / "out", parts.Attenuator(log=str(log)), parts.Attenuator("other"))
    assert log.read_text() == "...." and len(read_rows(tmp_path / "out")) == 16
    summary = run(selection, tmp_path / "out", parts.Attenuator(gains=(1.0,), log=str(log)))
    assert log.read_text() == "........"
    assert summary["systems"][0]["points"][0]["values"]["error"]["mean"] == 0


def test_a_changed_recording_is_done_again(selection: Selection, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    before = run(selection, tmp_path / "out", parts.Attenuator(log=str(log)))
    write_audio(selection.recordings[0].file, parts.tone(2.0, RATE, 0.6), RATE)
    after = run(selection, tmp_path / "out", parts.Attenuator(log=str(log)))
    assert log.read_text() == "....." and before["data"]["list_sha256"] != after["data"]["list_sha256"]
    assert read_rows(tmp_path / "out")[0]["values"]["error"] == pytest.approx(0.3, abs=1e-3)


def test_other_conditions_are_refused(selection: Selection, tmp_path: Path) -> None:
    run(selection, tmp_path / "out", parts.Attenuator())
    for measures, rate, what in (([parts.ERROR], 800, "rules"), ([], RATE, "measures")):
        with pytest.raises(ResultsError, match=f"out: holds an evaluation with another {what} .* give another folder"):
            evaluate(
                [parts.Attenuator()], selection, tmp_path / "out", measures=measures, scoring_rate=rate, options=HERE
            )
    with pytest.raises(ValueError, match="two systems are called 'attenuator'"):
        run(selection, tmp_path / "out", parts.Attenuator(), parts.Attenuator(gains=(1.0,)))
    with pytest.raises(ResultsError, match=r"corpus: holds no evaluation\.json"):
        read_summary(tmp_path / "corpus")


def test_a_process_that_dies_costs_its_own_recording_alone(selection: Selection, tmp_path: Path) -> None:
    write_audio(selection.recordings[1].file, parts.tone(2.0, RATE, 0.95), RATE)  # a wav, louder than Crasher bears
    summary = run(selection, tmp_path / "out", parts.Crasher(), workers=2)
    loud = selection.recordings[1].path
    problems = {problem["path"]: problem["what"] for problem in summary["problems"]}
    assert problems[loud].startswith("the process that scored it was ended by the system")
    assert {row["path"] for row in read_rows(tmp_path / "out")} == {"anna/0.wav", "ben/2.wav", "ben/3.wav"}


def test_a_model_at_each_number_of_codebooks(selection: Selection, tmp_path: Path) -> None:
    model = str(save_tiny("rvq-projected", tmp_path / "model"))
    summary = run(selection, tmp_path / "out", ModelSystem(model), clips=2)
    (entry,) = summary["systems"]
    assert [point["codebooks"] for point in entry["points"]] == [1, 2, 3]
    # 32 codes a frame, 80 frames a second
    assert [point["kbps"] for point in entry["points"]] == [0.4, 0.8, 1.2]
    assert [point["tokens_per_second"] for point in entry["points"]] == [80, 160, 240]
    assert [row["size"] for row in entry["codebooks"]] == [32, 32, 32]
    tokenizer = ModelSystem(model).tokenizer
    counts = torch.zeros(3, 32, dtype=torch.int64)
    for recording in selection.recordings:
        if recording.path != "bad.wav":
            codes = tokenizer.encode(recording.file).values[0]
            counts += torch.stack([torch.bincount(row, minlength=32) for row in codes])
    assert [row["counts"] for row in entry["codebooks"]] == counts.tolist()
    assert entry["points"][2]["kbps_by_entropy"] == pytest.approx(
        80 * sum(row["entropy_bits"] for row in entry["codebooks"]) / 1000, abs=1e-3
    )
    assert entry["about"]["token_fingerprint"] == tokenizer.token_fingerprint
    assert entry["edges"] is not None and entry["silence_peak_dbfs"] < 0
    # What a row scores is what `decode` gives, at the first point too.
    row = next(
        row for row in read_rows(tmp_path / "out") if row["point"].endswith("@1") and row["path"] == "anna/0.wav"
    )
    audio, _ = read_audio(tmp_path / "corpus/anna/0.wav")
    estimate = tokenizer.decode(tokenizer.encode(audio, RATE).prefix(1))
    assert row["values"]["error"] == pytest.approx(float((estimate.clamp(-1, 1) - audio).abs().max()), abs=1e-4)
    clips = sorted(path.name for path in (tmp_path / "out/clips/clip-1").iterdir())
    name = tokenizer.info.name
    assert clips == ["reference.flac", f"{name}.vqt", f"{name}@1.flac", f"{name}@2.flac", f"{name}@3.flac"]
    assert [clip["name"] for clip in summary["clips"]] == ["clip-1", "clip-2"]
    run(selection, tmp_path / "out", ModelSystem(model), clips=1)
    assert [path.name for path in (tmp_path / "out/clips").iterdir()] == ["clip-1"]
    with pytest.raises(ValueError, match="4 codebooks were asked for, and it has 3"):
        ModelSystem(model, (4,))


def test_edges_are_those_of_the_codebooks_that_are_scored(samples_folder: Path) -> None:
    """A cut costs little; one codebook beside eight, as if it were cut and uncut, more than half of the error."""
    file = samples_folder / "english-1.flac"
    recording = Recording(path=file.name, file=file, speaker="", kind="speech")
    system = ModelSystem("speech-16k", (1,))
    unit = evaluate_unit(recording, system, system.tokenizer.sample_rate, [parts.ERROR])
    assert unit.edges is not None and 0.8 < unit.edges["cut_ratio"] < 1.25


def test_the_points_of_a_model_are_powers_of_two_and_all() -> None:
    assert [numbers_of_codebooks(total) for total in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]


def test_a_thinned_measure_takes_the_same_recordings_whatever_the_list(selection: Selection, tmp_path: Path) -> None:
    thin = replace(parts.ERROR, values=(parts.value("thin"),), compute=parts.thin, one_in=2)
    for name, chosen in (("all", selection), ("some", replace(selection, recordings=selection.recordings[1:4]))):
        summary = evaluate(
            [parts.Attenuator()],
            chosen,
            tmp_path / name,
            measures=[parts.ERROR, thin],
            scoring_rate=RATE,
            options=HERE,
        )
        assert summary["one_in"] == {"thin": 2}
    everything = {row["sha256"]: row["values"] for row in read_rows(tmp_path / "all") if "error" in row["values"]}
    assert {"thin" in values for values in everything.values()} == {True, False}
    assert all(("thin" in values) == (int(digest[:8], 16) % 2 == 0) for digest, values in everything.items())
    assert all(
        row["values"].keys() == everything[row["sha256"]].keys()
        for row in read_rows(tmp_path / "some")
        if row["values"]
    )


KILLED = """
import sys
from pathlib import Path
from tests.evaluation import parts
from vqaudio.evaluation.evaluate import Options, evaluate
from vqaudio.evaluation.recordings import select
system = parts.Sleeper(log=sys.argv[3])
if __name__ == "__main__":
    evaluate([system], select(sys.argv[1]), sys.argv[2], measures=[parts.ERROR], options=Options(workers=2, clips=0))
"""


def test_workers_end_when_the_first_process_is_killed(selection: Selection, tmp_path: Path) -> None:
    script, log = tmp_path / "killed.py", tmp_path / "pids"
    script.write_text(KILLED)
    arguments = [str(selection.source), str(tmp_path / "out"), str(log)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script), *arguments], env=environment)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    workers = [int(pid) for pid in log.read_text().split()]
    while any(_is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers and not any(_is_alive(pid) for pid in workers)


def _is_alive(pid: int) -> bool:
    """A process that has ended and that nobody has asked for is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
