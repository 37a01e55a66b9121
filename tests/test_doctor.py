"""Golden codes and the doctor: silent where all is well, plain where it is not."""

import json
import shutil
from pathlib import Path

import pytest

from vqaudio import AudioTokenizer, Codes, pretrained
from vqaudio.cli import main
from vqaudio.doctor import CLIP, CLIP_RATE, CODES_NAME, FACTS_NAME, compare, examine, machine, write_golden
from vqaudio.dsp import resample
from vqaudio.io import read_audio
from vqaudio.shipped import shipped_models

MODELS = sorted(set(shipped_models().values()))
every_model = pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)


@every_model
def test_golden_codes(folder: Path) -> None:
    """Equal to the bit on the kind of machine they were made on; elsewhere by the near-tie rule."""
    tokenizer = AudioTokenizer.from_pretrained(folder)
    golden, facts = Codes.load(folder / CODES_NAME), json.loads((folder / FACTS_NAME).read_text())
    codes = tokenizer.encode(CLIP)
    if machine() == {name: facts[name] for name in machine()}:
        assert codes == golden
    audio, rate = read_audio(CLIP)
    assert rate == CLIP_RATE
    heard = resample(audio, rate, tokenizer.sample_rate)
    assert compare(tokenizer.codec, heard, codes.values, golden.values).explained
    assert len(golden.values.flatten().unique()) > 200, "codes that never change would prove nothing"


@pytest.fixture
def altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one shipped model there is: a copy that may be changed."""
    shutil.copytree(MODELS[0], tmp_path / MODELS[0].name)
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(pretrained, "__file__", str(tmp_path / "__init__.py"))
    return tmp_path / MODELS[0].name


def test_the_doctor_finds_this_machine_well(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_golden(altered)
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    for word in ("vqaudio 0.", "torch 2.", machine()["instructions"], altered.name, "must be equal here", "SI-SDR"):
        assert word.split()[0] in report, word
    assert "!" not in report
    assert report.strip().endswith("everything is as it should be")


def test_the_doctor_tells_wrong_codes_from_rounding(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = Codes.load(altered / CODES_NAME)
    golden.values[0, 0, 10] = (golden.values[0, 0, 10] + 1) % 1024
    golden.save(altered / CODES_NAME)
    facts = json.loads((altered / FACTS_NAME).read_text())
    (altered / FACTS_NAME).write_text(json.dumps({**facts, "processor": "another"}))
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    (line,) = [line for line in report.splitlines() if "golden codes" in line]
    assert line.startswith("!") and "1 of 230 frames differ" in line and "NOT ALL NEAR-TIES" in line
    assert "made on another" in line


def test_the_doctor_notices_an_altered_model_and_a_missing_golden_file(
    altered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (altered / FACTS_NAME).unlink()
    assert main(["doctor"]) == 1
    assert "golden.json is missing" in capsys.readouterr().out
    write_golden(altered)
    weights = bytearray((altered / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (altered / "model.safetensors").write_bytes(bytes(weights))
    assert main(["doctor"]) == 1
    assert "the model was altered" in capsys.readouterr().out


def test_on_the_same_kind_of_machine_any_difference_is_one(altered: Path) -> None:
    golden = Codes.load(altered / CODES_NAME)
    golden.values[0, 7, 3] = (golden.values[0, 7, 3] + 1) % 1024
    golden.save(altered / CODES_NAME)
    facts = json.loads((altered / FACTS_NAME).read_text())
    (altered / FACTS_NAME).write_text(json.dumps({**facts, **machine()}))
    (finding, *_) = examine(altered)
    assert not finding.good and "must be equal here" in finding.text
