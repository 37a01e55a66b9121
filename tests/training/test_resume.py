"""Going on with a run: what is refused, what the log keeps, which checkpoints stay, and the edges of budgets."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_loop import SMALL_RECIPE, lines, tensors
from tests.training.test_stages import staged
from vqaudio.checkpoint import load_codec
from vqaudio.cli import main
from vqaudio.training.log import RunLog
from vqaudio.training.loop import Run, train
from vqaudio.training.recipe import Recipe, StagesConfig
from vqaudio.training.state import checkpoints
from vqaudio.training.validation import Validator

STEPS, ADVERSARIAL, DECODER = 8, 2, 4


def short() -> Recipe:
    """All stages in eight steps; each of the later two begins at a checkpoint."""
    recipe = staged()
    return dataclasses.replace(
        recipe,
        steps=STEPS,
        stages=StagesConfig(reconstruction=0.25, adversarial=0.25, decoder=0.5),
        quantizer=dataclasses.replace(recipe.quantizer, quantize_after=1, fit_batches=2),
        report=dataclasses.replace(recipe.report, checkpoint_every=2, validate_every=2, validation_clips=1),
    )


@pytest.fixture(scope="module")
def whole(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    out = tmp_path_factory.mktemp("resume") / "whole"
    train(short(), packs, out)
    return out


@pytest.fixture
def again(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be resumed or damaged."""
    return Path(shutil.copytree(whole, tmp_path / "again"))


def cut_at(packs: Path, out: Path, step: int, recipe: Recipe | None = None, **options: Any) -> None:
    """Train until just before a step, then end as if killed."""
    do_step = Run._step

    def cut(self: Run, batch: Any, state: Any) -> Any:
        if state.step == step:
            raise KeyboardInterrupt
        return do_step(self, batch, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(recipe or short(), packs, out, **options)


def damage(checkpoint: Path) -> None:
    (checkpoint / "codec.safetensors").write_bytes(b"damaged")


def told(out: Path) -> list[tuple[str, int]]:
    """Kinds and steps of what is logged once in a run."""
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(entry["kind"], entry["step"]) for entry in entries if entry["kind"] not in ("resume", "warning")]


# ---- the log


@pytest.mark.parametrize("first", [ADVERSARIAL, DECODER])
def test_a_run_cut_off_right_after_a_stage_began_begins_it_once(
    first: int, packs: Path, whole: Path, tmp_path: Path
) -> None:
    cut_at(packs, tmp_path / "run", first)
    assert checkpoints(tmp_path / "run")[0].name == f"checkpoint-{first:08d}"
    assert lines(tmp_path / "run", "stage")[-1]["step"] == first
    train(short(), packs, tmp_path / "run", resume="auto")
    assert told(tmp_path / "run") == told(whole)
    assert tensors(tmp_path / "run") == tensors(whole)
    for name in ("best", "model"):
        ours, theirs = (out / name / "model.safetensors" for out in (tmp_path / "run", whole))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_a_finished_run_resumed_is_what_it_was(packs: Path, whole: Path, again: Path) -> None:
    train(short(), packs, again, resume="auto")
    assert told(again) == told(whole)
    assert tensors(again) == tensors(whole)
    assert (again / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_a_batch_skipped_right_after_a_checkpoint_is_told_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("skipped", 3)
    log.write("train", 4)
    saved = log.size
    log.write("skipped", 4)
    log.write("stage", 4)
    log.truncate_after(4, saved)
    assert [(line["kind"], line["step"]) for line in (*lines(tmp_path, "skipped"), *lines(tmp_path, "train"))] == [
        ("skipped", 3),
        ("train", 4),
    ]
    assert not lines(tmp_path, "stage")


def test_a_log_takes_any_name_and_loses_only_the_line_that_was_cut_off(tmp_path: Path) -> None:
    log, names = RunLog(tmp_path), ["ü.wav", "not UTF-8: \udcff.wav", "a\u2028b.wav"]
    log.write("skipped", 1, names=names)
    with open(log.path, "ab") as file:
        file.write('{"kind": "skipped", "step": 1, "names": ["ü'.encode()[:-1])  # in the middle of a letter
    log.truncate_after(1)
    entries = [json.loads(line) for line in log.path.read_bytes().split(b"\n")[:-1]]
    assert [entry["names"] for entry in entries] == [names]


# ---- checkpoints


def test_checkpoints_after_a_damaged_one_stay(packs: Path, again: Path, whole: Path) -> None:
    newest, before = checkpoints(again)
    damage(newest)
    # the run goes on from the one before and is stopped before it comes to the damaged one again
    shutil.move(newest, again / "checkpoint-00000100")
    (again / ".checkpoint-00000099.partial").mkdir()  # of a run that was killed
    cut_at(packs, again, 7, resume="auto")
    assert [path.name for path in checkpoints(again)] == ["checkpoint-00000100", before.name]
    train(short(), packs, again, resume="auto")
    assert [path.name for path in checkpoints(again)] == [newest.name, before.name]
    assert not list(again.glob(".checkpoint-*"))
    assert tensors(again) == tensors(whole)


def test_a_run_of_which_all_checkpoints_are_damaged_is_not_begun_anew(packs: Path, again: Path) -> None:
    for path in checkpoints(again):
        damage(path)
    before = (again / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"no checkpoint can be read: .*codec\.safetensors does not match its hash"):
        train(short(), packs, again, resume="auto")
    assert (again / "log.jsonl").read_bytes() == before
    assert len(checkpoints(again)) == 2


def test_a_checkpoint_of_another_format_is_refused_with_what_it_lacks(packs: Path, again: Path) -> None:
    for path in checkpoints(again):
        document = json.loads((path / "state.json").read_text())
        del document["parent"]
        (path / "state.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"state\.json does not say 'parent'"):
        train(short(), packs, again, resume="auto")


def test_a_copy_that_someone_made_of_a_checkpoint_is_left_alone(packs: Path, again: Path) -> None:
    copy = again / f"{checkpoints(again)[0].name}-kept"
    shutil.copytree(checkpoints(again)[0], copy)
    assert copy not in checkpoints(again)
    train(short(), packs, again, resume="auto")
    assert copy.is_dir()


# ---- refusals


def test_a_finished_run_without_its_checkpoints_is_not_trained_over(packs: Path, again: Path) -> None:
    for path in checkpoints(again):
        shutil.rmtree(path)
    before = (again / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds a finished run, but no checkpoint of it"):
        train(short(), packs, again, resume="auto")
    with pytest.raises(ValueError, match="holds a finished run, but no checkpoint of it"):
        train(short(), packs, again)
    assert (again / "log.jsonl").read_bytes() == before


def test_another_recipe_is_refused_with_what_differs(packs: Path, again: Path) -> None:
    other = dataclasses.replace(short(), seed=9, losses=dataclasses.replace(short().losses, mel=2.0))
    with pytest.raises(ValueError, match=re.escape("made with other settings (seed, losses.mel); resume")):
        train(other, packs, again, resume="auto")


def test_a_budget_in_minutes_is_that_of_the_run(packs: Path, again: Path) -> None:
    with pytest.raises(ValueError, match="was begun for 8 steps; it cannot resume for 5 minutes"):
        train(short(), packs, again, minutes=5, resume="auto")
    for path in checkpoints(again):
        document = json.loads((path / "state.json").read_text())
        document["state"]["minutes"] = 4.0
        (path / "state.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="was begun for 4 minutes; it cannot resume for 5 minutes"):
        train(short(), packs, again, minutes=5, resume="auto")
    train(short(), packs, again, minutes=4, resume="auto")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"steps": 4}, "the encoder learns in 2"), ({"steps": 2, "stages": StagesConfig()}, "the encoder learns in 2")],
)
def test_a_budget_that_ends_before_there_are_codebooks_is_refused(
    changes: dict[str, Any], message: str, packs: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(short(), **changes)
    recipe = dataclasses.replace(recipe, quantizer=dataclasses.replace(recipe.quantizer, quantize_after=3))
    with pytest.raises(ValueError, match=message):
        train(recipe, packs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["cuda:77", "nonsense"])
def test_a_device_that_is_not_there_is_refused(device: str, packs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        train(short(), packs, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


# ---- edges


def test_the_command_line_says_why_a_run_gave_up(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Run._step
    monkeypatch.setattr("vqaudio.training.loop.MOST_SKIPPED_IN_A_ROW", 2)
    monkeypatch.setattr(
        Run,
        "_step",
        lambda self, batch, state: step(self, dataclasses.replace(batch, audio=batch.audio * torch.inf), state),
    )
    (tmp_path / "recipe.toml").write_text(SMALL_RECIPE)
    settings = ["--data.batch-size", "1", "--quantizer.quantize-after", "1"]
    assert main(["train", str(tmp_path), "--packs", str(packs), "--out", str(tmp_path / "run"), *settings]) == 1
    assert capsys.readouterr().err.startswith("vqaudio: 3 batches in a row were not finite; see ")


def test_a_stage_that_begins_while_the_budget_is_measured_begins_late(packs: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vqaudio.training.loop.MEASURED_STEPS", 4)
        patch.setattr("vqaudio.training.loop.UNMEASURED_STEPS", 1)
        train(short(), packs, tmp_path / "run", minutes=1e-6)  # five steps, of which two are for the decoder
    assert [(line["step"], line["name"]) for line in lines(tmp_path / "run", "stage")] == [
        (0, "reconstruction"),
        (4, "decoder"),
    ]
    assert json.loads((checkpoints(tmp_path / "run")[0] / "state.json").read_text())["state"]["minutes"] == 1e-6


def test_the_best_of_a_stage_is_not_measured_by_the_stage_before(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses that rise from step to step: the best of the last stage is its first validation."""
    monkeypatch.setattr(Validator, "scores", lambda self, codec, step, **_: {"reconstruction": float(step)})
    train(short(), packs, tmp_path / "run")
    about = json.loads((tmp_path / "run/best/config.json").read_text())["about"]
    assert about["steps"] == DECODER + 2


def test_only_the_decoder_moves_in_its_stage(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the averaged weights as they are stored, which is what ships."""
    seen: list[dict[str, torch.Tensor]] = []
    step = Run._step

    def watched(self: Run, batch: Any, state: Any) -> Any:
        result = step(self, batch, state)
        if state.step >= DECODER:
            seen.append({name: value.clone() for name, value in self.learners.trained.state_dict().items()})
        return result

    monkeypatch.setattr(Run, "_step", watched)
    shipped, _ = load_codec(train(short(), packs, tmp_path / "run"))
    for name, value in shipped.state_dict().items():
        kept = name.startswith(("encoder.", "quantizer."))
        assert all(torch.equal(step[name], seen[0][name]) for step in seen) or not kept, name
        assert not kept or name.endswith(("ema_counts", "ema_sums")) or torch.equal(value, seen[0][name]), name
    assert any(not torch.equal(seen[-1][name], value) for name, value in seen[0].items())


def test_a_checkpoint_holds_the_average_as_it_is(whole: Path) -> None:
    """Without it a resumed run would begin the average anew, from the weights."""
    average, codec = (load_file(checkpoints(whole)[0] / f"{name}.safetensors") for name in ("average", "codec"))
    assert average.keys() == codec.keys()
    assert any(not torch.equal(value, codec[name]) for name, value in average.items())


def test_a_large_seed_trains_and_is_a_seed_of_its_own(packs: Path, tmp_path: Path) -> None:
    found = []
    for seed in (2**63, 2**63 + 1):
        train(dataclasses.replace(short(), seed=seed), packs, tmp_path / str(seed), steps=2)
        found.append(load_file(tmp_path / str(seed) / "model/model.safetensors"))
    assert any(not torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_samples_of_another_run_in_the_folder_are_replaced(packs: Path, tmp_path: Path) -> None:
    report = dataclasses.replace(short().report, samples_every=1, validate_every=5)
    recipe = dataclasses.replace(short(), report=report, stages=StagesConfig())
    samples = tmp_path / "run" / "samples"
    samples.mkdir(parents=True)
    (samples / "0-original.wav").write_bytes(b"of other clips")
    train(recipe, packs, tmp_path / "run", steps=2)
    assert (samples / "0-original.wav").read_bytes().startswith(b"RIFF")
