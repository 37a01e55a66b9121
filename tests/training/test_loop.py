"""A run as a whole: what it writes, how it resumes, what it refuses."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vqaudio.checkpoint import load_codec
from vqaudio.cli import main
from vqaudio.data import Item, Manifest, write_packs
from vqaudio.training import loop
from vqaudio.training.curve import validations, write_curve
from vqaudio.training.log import Meter
from vqaudio.training.loop import Run, train
from vqaudio.training.recipe import Recipe
from vqaudio.training.state import checkpoints

RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes"


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


def tensors(out: Path) -> dict[str, bytes]:
    newest = checkpoints(out)[0]
    return {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}


@pytest.fixture(scope="module")
def finished(packs: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """One run of 12 steps that was never interrupted."""
    out = tmp_path_factory.mktemp("run") / "whole"
    train(tiny_recipe(), packs, out)
    return out


def tiny_recipe() -> Recipe:
    from tests.training.conftest import recipe

    return recipe.__wrapped__()  # type: ignore[attr-defined, no-any-return]


def test_a_run_leaves_a_model_that_loads_and_says_what_it_was_trained_on(finished: Path) -> None:
    codec, info = load_codec(finished / "model")
    assert codec.codebook_sizes == (16, 16, 16)
    assert info.name == "tiny"
    assert info.about["steps"] == 12
    assert set(info.about["data"]["licences"]) == {"CC BY 4.0", "Apache-2.0"}
    assert "CC BY 4.0" in (finished / "model" / "card.md").read_text()


def test_the_log_follows_every_codebook_on_validation_audio(finished: Path) -> None:
    validations = lines(finished, "validation")
    assert [entry["step"] for entry in validations] == [5, 10, 12]
    last = validations[-1]
    assert len(last["perplexity"]) == len(last["used"]) == len(last["residual_energy"]) == 3
    assert all(1 <= perplexity <= used <= 16 for perplexity, used in zip(last["perplexity"], last["used"], strict=True))
    assert [entry["step"] for entry in lines(finished, "train")] == [2, 4, 6, 8, 10, 12]
    assert len(list((finished / "samples").glob("*.wav"))) == 2  # the original, and step 10


def test_only_the_last_checkpoints_are_kept(finished: Path) -> None:
    assert [path.name for path in checkpoints(finished)] == ["checkpoint-00000012", "checkpoint-00000009"]


def test_a_run_cut_off_and_resumed_equals_one_that_never_stopped(
    packs: Path, recipe: Recipe, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cut"
    step = Run._step

    def cut(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 8:
            raise KeyboardInterrupt
        return step(self, batch, state)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, packs, out)
    assert checkpoints(out)[0].name == "checkpoint-00000006"
    train(recipe, packs, out, resume="auto")
    assert tensors(out) == tensors(finished)
    assert (out / "model/model.safetensors").read_bytes() == (finished / "model/model.safetensors").read_bytes()
    volatile = {"seconds", "step_seconds", "data_wait_seconds"}
    for kind in ("train", "validation"):  # what was logged past the checkpoint is logged again, once
        resumed = [{k: v for k, v in entry.items() if k not in volatile} for entry in lines(out, kind)]
        whole = [{k: v for k, v in entry.items() if k not in volatile} for entry in lines(finished, kind)]
        assert resumed == whole


KILLED = """
import os, signal, sys
import torch
from tests.training.test_loop import tiny_recipe
from vqaudio.training.loop import Run, train
torch.set_num_threads(1)
step = Run._step
def cut(self, batch, state):
    if state.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, state)
Run._step = cut
train(tiny_recipe(), sys.argv[1], sys.argv[2])
"""


def test_a_run_killed_outright_resumes_to_the_same_bits(packs: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    root = Path(__file__).resolve().parent.parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(packs), str(out)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    train(tiny_recipe(), packs, out, resume="auto")
    assert tensors(out) == tensors(finished)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    packs: Path, recipe: Recipe, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    train(recipe, packs, out)
    damaged = checkpoints(out)[0] / "codec.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    train(recipe, packs, out, resume="auto")
    assert tensors(out) == tensors(finished)
    (resume,) = lines(out, "resume")
    assert resume["step"] == 9
    assert "checkpoint-00000012" in resume["damaged"][0]


def test_means_are_over_the_steps_that_had_a_part() -> None:
    meter = Meter()
    for parts in ({"loss": 1.0}, {"loss": 2.0, "discriminator": 2.0}, {"loss": 6.0, "discriminator": 1.0}):
        meter.add({name: torch.tensor(value) for name, value in parts.items()})
    assert meter.mean("loss") == 3.0 and meter.mean("discriminator") == 1.5
    assert math.isnan(meter.mean("adversarial"))


SMALL_RECIPE = """
name = "small"
steps = 4
[codec.encoder]
channels = 8
[report]
validate_every = 2
"""


def test_the_command_takes_another_seed(packs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(SMALL_RECIPE)
    command = ["train", str(recipe), "--packs", str(packs), "--data.batch-size", "2", "--quantizer.quantize-after", "1"]
    losses = []
    for name, words in (("plain", []), ("zero", ["--seed", "0"]), ("seven", ["--seed", "7"])):
        assert main([*command, "--out", str(tmp_path / name), *words]) == 0
        losses.append(lines(tmp_path / name, "validation")[0]["loss"])
    assert losses[0] == losses[1] != losses[2]  # 0 is the recipe's


def test_the_command_compares_with_a_reference_curve(
    packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, curve = tmp_path / "recipe.toml", tmp_path / "curve.csv"
    recipe.write_text(SMALL_RECIPE)
    command = ["train", str(recipe), "--packs", str(packs), "--data.batch-size", "2", "--quantizer.quantize-after", "1"]
    assert main([*command, "--out", str(tmp_path / "first")]) == 0
    write_curve(validations(tmp_path / "first" / "log.jsonl"), curve)
    assert main([*command, "--out", str(tmp_path / "second"), "--compare", str(curve)]) == 0
    assert "inside" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "third"), "--compare", str(recipe)]) == 1
    assert "is no curve" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()  # told before a step is made


def write_packs_of(train_clip: str, valid_clip: str, out: Path) -> Path:
    samples = RECIPES.parent / "samples"
    out.mkdir()
    clips = (Item(path=train_clip, split="train", speaker="a"), Item(path=valid_clip, split="valid", speaker="b"))
    write_packs(Manifest(samples, clips), out, sample_rate=16_000)
    return out


def test_a_folder_that_holds_a_run_is_not_overwritten(
    packs: Path, recipe: Recipe, finished: Path, tmp_path: Path
) -> None:
    before = (finished / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match="already holds a run; continue it with --resume auto"):
        train(recipe, packs, finished)
    other = dataclasses.replace(recipe, seed=8)
    with pytest.raises(ValueError, match="made with other settings"):
        train(other, packs, finished, resume="auto")
    with pytest.raises(ValueError, match="begun for 12 steps"):
        train(recipe, packs, finished, steps=20, resume="auto")
    others = write_packs_of("english-2.flac", "english-1.flac", tmp_path / "packs")
    with pytest.raises(ValueError, match="was begun with other packs than those in"):
        train(recipe, others, finished, resume="auto")
    assert (finished / "log.jsonl").read_bytes() == before


def test_minutes_become_steps_that_are_stored(packs: Path, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "minutes"
    train(recipe, packs, out, minutes=0.0001)  # less than the measured steps take: one step more than those
    (budget,) = lines(out, "budget")
    assert budget["step"] == loop.MEASURED_STEPS
    assert budget["total_steps"] == loop.MEASURED_STEPS + 1
    assert json.loads((checkpoints(out)[0] / "state.json").read_text())["state"]["total_steps"] == budget["total_steps"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"steps": 5, "minutes": 1.0}, "in steps or in minutes, not both"),
        ({"steps": 0}, "must be positive, got 0"),
        ({"minutes": -1.0}, "must be positive, got -1"),
    ],
)
def test_wrong_budgets_are_refused(
    packs: Path, recipe: Recipe, tmp_path: Path, budget: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(recipe, packs, tmp_path / "out", **budget)
    assert not (tmp_path / "out").exists()


def test_packs_at_another_rate_are_refused(packs: Path, recipe: Recipe, tmp_path: Path) -> None:
    other = dataclasses.replace(recipe, codec=dataclasses.replace(recipe.codec, sample_rate=24_000))
    with pytest.raises(ValueError, match=r"packed at 16000 Hz, but recipe 'tiny' wants 24000 Hz"):
        train(other, packs, tmp_path / "out")


def test_a_bad_batch_is_skipped_named_and_changes_nothing(
    packs: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool]] = []
    step = Run._step

    def poisoned(self: Run, batch: Any, state: Any) -> Any:
        if state.step != 6:
            return step(self, batch, state)
        before = {name: value.clone() for name, value in self.learners.trained.state_dict().items()}
        result = step(self, dataclasses.replace(batch, audio=batch.audio.fill_(torch.nan)), state)
        same = all(torch.equal(value, before[name]) for name, value in self.learners.trained.state_dict().items())
        seen.append((state.step, same))
        return result

    monkeypatch.setattr(Run, "_step", poisoned)
    out = tmp_path / "run"
    train(recipe, packs, out)
    assert seen == [(6, True)]
    (skipped,) = lines(out, "skipped")
    assert skipped["step"] == 6
    assert len(skipped["names"]) == 3
    assert load_codec(out / "model")[1].about["skipped_batches"] == 1


def test_a_run_that_only_meets_bad_batches_ends_with_a_reason(
    packs: Path,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Run._step
    monkeypatch.setattr(
        Run,
        "_step",
        lambda self, batch, state: step(self, dataclasses.replace(batch, audio=batch.audio * torch.inf), state),
    )
    with pytest.raises(RuntimeError, match=r"batches in a row were not finite"):
        train(recipe, packs, tmp_path / "run", steps=loop.MOST_SKIPPED_IN_A_ROW + 2)
    (warning,) = lines(tmp_path / "run", "warning")  # once, long before
    assert warning["name"] == "losses not finite" and warning["step"] < 20
    assert "Look whether the same recordings" in warning["remedy"]
    assert "! step" in capsys.readouterr().err
