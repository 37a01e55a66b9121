"""vqaudio evaluate, score and compare, as they are typed."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny import save_tiny
from vqaudio.cli import main
from vqaudio.dsp import resample
from vqaudio.evaluation.codecs import reference_systems
from vqaudio.evaluation.results import read_rows, read_summary
from vqaudio.io import read_audio, write_audio

RATE = 16_000
OWN = ["--metrics", "si_sdr", "mel_distance", "log_spectral_distance"]
HERE = ["--workers", "0", "--clips", "0"]


@pytest.fixture
def references(tmp_path: Path, samples_folder: Path) -> Path:
    """Three clips of real speech of 1.5 s, by two speakers."""
    folder = tmp_path / "references"
    for name in ("anna/english-1.flac", "anna/english-2.flac", "ben/english-mandarin-accent.flac"):
        audio, rate = read_audio(samples_folder / Path(name).name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_audio(folder / name, resample(audio, rate, RATE)[:, RATE : RATE * 5 // 2], RATE)
    return folder


def decoded(references: Path, folder: Path, change: "dict[str, Tensor] | None" = None) -> Path:
    """The references as WAV files, some of them replaced."""
    for path in references.rglob("*.flac"):
        place = (folder / path.relative_to(references)).with_suffix(".wav")
        place.parent.mkdir(parents=True, exist_ok=True)
        audio, rate = read_audio(path)
        write_audio(place, (change or {}).get(path.stem, audio), rate)
    return folder


def test_the_same_files_score_perfectly(references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copies = decoded(references, tmp_path / "copies")
    assert main(["score", str(references), str(copies), "--out", str(tmp_path / "out"), *OWN, *HERE]) == 0
    summary = read_summary(tmp_path / "out")
    values = {name: found["mean"] for name, found in summary["systems"][0]["points"][0]["values"].items()}
    assert values["si_sdr"] >= 80 and values["mel_distance"] == values["log_spectral_distance"] == 0
    assert summary["data"]["files"] == 3 and summary["problems"] == []
    said = capsys.readouterr().out
    assert "| copies, as given | – |" in said and "Mel distance" in said and "report.html" in said
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "copies" in page and "english-2" in page


def test_known_noise_has_its_known_score(references: Path, tmp_path: Path) -> None:
    """White noise 20 dB below each clip, made orthogonal to it, is an SI-SDR of 20 dB."""
    generator = torch.Generator().manual_seed(5)
    noisy = {}
    for path in references.rglob("*.flac"):
        audio = read_audio(path)[0] * 0.5
        noise = torch.randn(audio.shape, generator=generator)
        noise -= (noise * audio).sum() / audio.square().sum() * audio
        noisy[path.stem] = audio + 0.1 * noise * audio.norm() / noise.norm()
    folder = decoded(references, tmp_path / "noisy", noisy)
    assert main(["score", str(references), str(folder), "--out", str(tmp_path / "out"), *OWN, *HERE]) == 0
    for row in read_rows(tmp_path / "out"):
        assert row["values"]["si_sdr"] == pytest.approx(20.0, abs=0.1)


def test_what_is_no_pair_is_named_and_does_not_spoil_the_means(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, third = sorted(references.rglob("*.flac"))
    audio = read_audio(one)[0]
    write_audio(references / "silent.wav", torch.zeros(1, RATE), RATE)
    write_audio(references / "low.wav", audio, RATE)
    write_audio(references / "lost.wav", audio, RATE)
    folder = decoded(
        references, tmp_path / "mixed", {other.stem: read_audio(third)[0], third.stem: read_audio(third)[0][:, :9_000]}
    )
    write_audio(folder / "silent.wav", torch.zeros(1, RATE), RATE)
    write_audio(folder / "low.wav", resample(audio, RATE, 8_000), 8_000)
    write_audio(folder / "stranger.wav", audio, RATE)
    out = tmp_path / "out"
    assert main(["score", str(references), str(folder), "--out", str(out), "--kbps", "7", *OWN, *HERE]) == 1
    captured = capsys.readouterr()
    assert f"{folder / 'stranger.wav'}: is of no recording in {references}" in captured.err
    summary = read_summary(out)
    problems = {problem["path"]: problem["what"] for problem in summary["problems"]}
    assert "there is no decoded file for it" in problems["lost.wav"]
    assert "no pair" in problems["anna/english-2.flac"] and "correlate" in problems["anna/english-2.flac"]
    assert "0.562 s long and the recording 1.500 s" in problems["ben/english-mandarin-accent.flac"]
    assert "silent" in problems["silent.wav"]
    assert problems["low.wav"] == "decoded at 8,000 Hz and scored at 16,000 Hz: nothing is above 4,000 Hz"
    assert all(f"{path}: {what}" in captured.out for path, what in problems.items())
    point = summary["systems"][0]["points"][0]
    assert point["values"]["mel_distance"]["files"] == 2 and point["kbps"] == pytest.approx(7, rel=1e-3)
    scored = {row["path"] for row in read_rows(out) if row["values"]}
    assert scored == {"anna/english-1.flac", "low.wav"}


def test_folders_of_other_names_are_no_evaluation(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_audio(tmp_path / "elsewhere/x.wav", torch.zeros(1, 100), RATE)
    assert main(["score", str(references), str(tmp_path / "elsewhere"), "--out", str(tmp_path / "out"), *HERE]) == 1
    said = capsys.readouterr().err
    assert "have no file in common: there is anna/english-1.flac in one and x.wav in the other" in said
    for arguments in (["nowhere", str(references)], [str(references), "nowhere"]):
        with pytest.raises(SystemExit):
            main(["score", *arguments, "--out", str(tmp_path / "out")])
        assert "nowhere: there is no such file or folder" in capsys.readouterr().err


def test_a_model_is_evaluated_and_compared_with_itself(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(save_tiny("rvq-projected", tmp_path / "model")), str(tmp_path / "out")
    arguments = ["evaluate", model, str(references), "--out", out, "--codec", "none", "--codebooks", "1", "3"]
    assert main([*arguments, "--limit", "2", *OWN, "--workers", "0", "--clips", "1"]) == 0
    said = capsys.readouterr().out
    assert "| tiny-rvq-projected, 1 codebook | 0.4 |" in said and "| tiny-rvq-projected, 3 codebooks | 1.2 |" in said
    assert {row["path"] for row in read_rows(out)} == {"anna/english-1.flac", "anna/english-2.flac"}
    assert main(["compare", out, f"{out}:tiny-rvq-projected", "--out", str(tmp_path / "comparison.json")]) == 0
    said = capsys.readouterr().out
    assert "tiny-rvq-projected may not replace tiny-rvq-projected: pesq_wb, stoi, mel_distance must all" in said
    assert "+0.000 [+0.000, +0.000]" in said
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert comparison["may_replace"] is False and len(comparison["points"]) == 2


def test_a_codec_by_its_command(references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    arguments = ["evaluate", str(references), "--codec", "copied=cp {in} {out}", "--out", out, *OWN, *HERE]
    assert main(arguments) == 0
    assert "| copied" in capsys.readouterr().out
    (system,) = read_summary(out)["systems"]
    assert system["points"][0]["values"]["si_sdr"]["mean"] >= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--codec", "cp {in} {out}"], "a command is given with its name, NAME=CMD {in} {out}"),
        (["--codec", "mp4"], "mp4"),
        (["--codec", "none"], "a model and the data are wanted"),
        (["--codec", "mu-law", "--metrics", "beauty"], "'beauty' is unknown for speech; known: "),
        (["--codec", "mu-law", "--split", "test"], "no recording of split 'test'; it has no splits"),
    ],
)
def test_a_wrong_command_line_is_told_before_anything_is_done(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    try:
        status = main(["evaluate", str(references), "--out", str(tmp_path / "out"), *arguments, *HERE])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status in (1, 2) and said in capsys.readouterr().err
    assert not (tmp_path / "out/evaluation.json").exists()


def si_sdr_of(out: Path) -> dict[str, float]:
    return {row["path"]: row["values"]["si_sdr"] for row in read_rows(out) if "si_sdr" in row.get("values", {})}


def test_decoded_files_that_have_changed_are_scored_anew(references: Path, tmp_path: Path) -> None:
    folder, out = decoded(references, tmp_path / "mine"), tmp_path / "out"
    perfect = folder / "ben/english-mandarin-accent.wav"
    audio, rate = read_audio(perfect)
    perfect.unlink()
    score = ["score", str(references), str(folder), "--out", str(out), *OWN, *HERE]
    assert main(score) == 1  # one is missing
    write_audio(perfect, audio + 0.01 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(1)), rate)
    assert main(score) == 0
    assert si_sdr_of(out)["ben/english-mandarin-accent.flac"] < 40
    write_audio(perfect, audio, rate)
    assert main(score) == 0
    assert len(si_sdr_of(out)) == 3 and min(si_sdr_of(out).values()) >= 80


def test_a_command_whose_file_was_edited_is_another_codec(references: Path, tmp_path: Path) -> None:
    codec, out = tmp_path / "codec.sh", tmp_path / "out"
    command = ["evaluate", str(references), "--codec", f"own=sh {codec} {{in}} {{out}}", "--out", str(out), *OWN, *HERE]
    codec.write_text('cp "$1" "$2"\n')
    assert main(command) == 0
    codec.write_text("exit 3\n")
    assert main(command) == 1
    assert si_sdr_of(out) == {}


def test_another_listener_is_not_taken_for_the_one_before(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listener, out = tmp_path / "listener.py", tmp_path / "out"
    listener.write_text("def hear(audio, sample_rate):\n    return 'one two'\n")
    score = ["score", str(references), str(references), "--out", str(out), "--metrics", "word_error_rate", *HERE]
    score += ["--transcribe", f"{listener}:hear"]
    assert main(score) == 0
    listener.write_text("def hear(audio, sample_rate):\n    return str(audio.sum())\n")
    assert main(score) == 1
    assert "holds an evaluation with another versions" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("opusenc") is None, reason="opusenc is not on the path: install opus-tools")
def test_codecs_by_name_have_the_bitrates_of_the_kind(references: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(references), "--codec", "opus", "--limit", "1", "--metrics", "si_sdr", *HERE]
    for kind in ("speech", "music"):
        assert main([*arguments, "--kind", kind, "--out", str(tmp_path / kind)]) in (0, 1)
        (system,) = read_summary(tmp_path / kind)["systems"]
        (wanted,) = [each for each in reference_systems(kind) if each.name == "opus"]
        assert [point["name"] for point in system["points"]] == [point.name for point in wanted.points], kind


def test_a_name_of_any_bytes_is_scored(references: Path, tmp_path: Path) -> None:
    odd = references / os.fsdecode(b"caf\xe9.flac")
    (references / "anna/english-1.flac").rename(odd)
    copies = decoded(references, tmp_path / "copies")
    assert main(["score", str(references), str(copies), "--out", str(tmp_path / "out"), *OWN, *HERE]) == 0
    assert odd.name in si_sdr_of(tmp_path / "out") and (tmp_path / "out/report.html").is_file()
