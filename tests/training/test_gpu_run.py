"""recipes/gpu_run.py through its whole cycle on the CPU, and every command of docs/gpu.md."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.scripts import RECIPES, script, toml
from tests.training.test_carry import cut_off
from tests.training.test_loop import tensors, tiny_recipe
from vqaudio.cli.arguments import _parser
from vqaudio.config import to_dict
from vqaudio.training.loop import train
from vqaudio.training.recipe import Recipe, load_recipe
from vqaudio.training.rehearsal import rehearse

carry, gpu_run = script("carry"), script("gpu_run")
ROOT = RECIPES.parent
WAIT_SECONDS = 300  # on a machine that has much else to do
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "PYTHONPATH": str(ROOT),
}


def write_recipe(recipe: Recipe, folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(toml(to_dict(recipe)))
    assert load_recipe(folder) == recipe
    return folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run's folder; what is still running in it afterwards is ended."""
    yield tmp_path / "run"
    process = gpu_run.read_process(tmp_path / "run")
    if process is not None and process.alive:
        os.killpg(process.pid, signal.SIGKILL)


def start(recipe: Path, packs: Path, run: Path, *further: str) -> str:
    command = [sys.executable, str(RECIPES / "gpu_run.py"), "start", str(recipe), "--packs", str(packs)]
    command += ["--out", str(run), "--device", "cpu", *further]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout


def wait_for(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.2)


def test_a_run_is_started_polled_stopped_collected_and_started_again(
    packs: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = dataclasses.replace(tiny_recipe().report, checkpoint_every=20, validate_every=25, log_every=10)
    recipe = dataclasses.replace(tiny_recipe(), steps=100_000, report=report)
    folder = write_recipe(recipe, tmp_path / "tiny")
    assert "started as process" in start(folder, packs, run)
    wait_for(lambda: bool(carry.newest_checkpoint(run)) and (run / "best").is_dir())
    assert "runs already, as process" in start(folder, packs, run)
    assert gpu_run.main(["poll", str(run)]) == 3
    said = capsys.readouterr().out
    assert re.match(
        rf"{run}: running, step \d+ of 100,000, [\d.]+ steps a second, [\d.]+ % of it waiting for data, ", said
    )
    assert re.search(r"\n  step \d+ train loss=|\n  step \d+ train learning_rate=", said)

    assert gpu_run.main(["stop", str(run)]) == 4
    assert re.search(
        r": stopped, step \d+ of 100,000, .*\nstart goes on from checkpoint-", capsys.readouterr().out, re.S
    )
    stopped_at = json.loads(carry.newest_checkpoint(run)[f"{newest(run)}/state.json"])["state"]["step"]
    assert 0 < stopped_at < 100_000
    assert gpu_run.main(["stop", str(run)]) == 4  # nothing to stop

    parts = tmp_path / "parts"
    capsys.readouterr()
    assert gpu_run.main(["collect", str(run), str(parts), "--megabytes", "0.02"]) == 0
    folders = sorted(path.name.partition("-")[0] for path in parts.iterdir())
    assert folders == ["checkpoint", "log", "weights"]
    assert all(path.stat().st_size <= 20_000 for path in parts.glob("*/*.part"))
    before = {path: path.stat().st_mtime_ns for path in parts.rglob("*")}
    assert gpu_run.main(["collect", str(run), str(parts), "--megabytes", "0.02"]) == 0
    assert capsys.readouterr().out.count("nothing new") == 3
    assert {path: path.stat().st_mtime_ns for path in parts.rglob("*")} == before

    (elsewhere := tmp_path / "elsewhere").mkdir()
    for pack in sorted(parts.iterdir()):
        carry.unpack(pack, elsewhere)
    assert newest(elsewhere) == newest(run)
    start(folder, packs, run)
    wait_for(lambda: '"kind": "resume"' in (run / "log.jsonl").read_text())
    assert gpu_run.main(["poll", str(run)]) == 3


def test_a_run_that_crashed_is_finished_in_the_bits_of_one_that_did_not(
    packs: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(packs, run)
    start(write_recipe(tiny_recipe(), tmp_path / "tiny"), packs, run)
    wait_for(lambda: gpu_run.state_of(run) != "running")
    assert gpu_run.main(["poll", str(run), "--lines", "1"]) == 0
    said = capsys.readouterr().out
    assert re.match(rf"{run}: done, step 12 of 12, .*\n  step 12 end seconds=", said)
    train(tiny_recipe(), packs, tmp_path / "whole")
    assert tensors(run) == tensors(tmp_path / "whole")


def newest(run: Path) -> str:
    return str(next(iter(carry.newest_checkpoint(run)))).partition("/")[0]


def test_a_run_that_died_says_what_it_printed(
    packs: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(write_recipe(tiny_recipe(), tmp_path / "tiny"), packs, run, "--steps", "0")
    wait_for(lambda: gpu_run.state_of(run) != "running")
    assert gpu_run.main(["poll", str(run)]) == 1
    said = capsys.readouterr().out
    assert f"{run}: died, no line in its log yet" in said
    assert "| vqaudio: the budget must be positive, got 0" in said
    assert "there is no whole checkpoint: start begins anew" in said


def test_a_run_killed_outright_has_died(run: Path) -> None:
    """Nobody is left to write its status down, and its number may be another's by now."""
    (run / "background").mkdir(parents=True)
    ours = gpu_run._born(os.getpid())
    for born, state in ((ours, "running"), ("1", "died")):
        document = {"pid": os.getpid(), "born": born, "command": []}
        (run / "background/process.json").write_text(json.dumps(document))
        assert gpu_run.state_of(run) == state
    (run / "background/process.json").unlink()  # or the fixture would end this process


def test_what_was_never_started_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_run.main(["poll", str(tmp_path)]) == 2
    assert "nothing was started here; gpu_run.py start begins a run" in capsys.readouterr().err


def test_check_rehearses_every_stage(packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny_recipe()
    staged = dataclasses.replace(recipe, stages=dataclasses.replace(recipe.stages, adversarial=1.0, decoder=1.0))
    folder = write_recipe(staged, tmp_path / "tiny")
    arguments = ["check", str(folder), "--packs", str(packs), "--device", "cpu", "--steps", "6"]
    assert gpu_run.main([*arguments, "--data.batch-size", "2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^packs, train: whole, 0\.0\d hours at 16000 Hz$", said, re.M)
    for stage in ("reconstruction", "adversarial", "decoder"):
        assert re.search(rf"^{stage}: [\d.]+ steps a second, .* waits for data [\d.]+ % of the time", said, re.M)
    assert re.search(r"^the 12 steps of the recipe: [\d.]+ hours; checked in \d+ s$", said, re.M)


def test_check_names_what_is_wrong(packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_recipe(tiny_recipe(), tmp_path / "tiny")
    spoilt = shutil.copytree(packs, tmp_path / "packs")
    part = spoilt / "train-00000.bin"
    part.write_bytes(part.read_bytes()[:-2] + b"xx")
    arguments = ["check", str(folder), "--device", "cpu", "--steps", "4", "--packs"]
    assert gpu_run.main([*arguments, str(spoilt)]) == 2
    assert "train-00000.bin: damaged, its bytes are not those that were packed" in capsys.readouterr().err
    assert gpu_run.main([*arguments, str(packs), "--minutes", "3"]) == 2
    assert "--minutes is no option of check" in capsys.readouterr().err


def test_check_says_that_torch_sees_no_gpu(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder = write_recipe(tiny_recipe(), tmp_path / "tiny")
    assert gpu_run.main(["check", str(folder), "--packs", str(packs), "--device", "cuda"]) == 2
    assert "sees no GPU: look at nvidia-smi and the driver" in capsys.readouterr().err


def test_a_rehearsal_says_when_steps_wait_for_data(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqaudio.data.crops import CropSampler

    recipe, make = tiny_recipe(), CropSampler.batch
    quick = rehearse(recipe, packs, stage="reconstruction", steps=12, unmeasured=6)
    assert quick.steps == 6
    seconds = 0.05 + 5 * quick.step_seconds

    def slowly(self: CropSampler, step: int) -> object:
        time.sleep(seconds)
        return make(self, step)

    monkeypatch.setattr(CropSampler, "batch", slowly)
    slow = rehearse(recipe, packs, stage="reconstruction", steps=12, unmeasured=6)
    assert slow.data_share > max(0.3, quick.data_share)
    assert slow.batch_seconds > seconds
    assert slow.loss == quick.loss
    assert 1 / slow.steps_per_second == pytest.approx(slow.step_seconds + slow.data_wait_seconds)
    with pytest.raises(ValueError, match="of 5 steps, 5 are not to be measured"):
        rehearse(recipe, packs, stage="reconstruction", steps=5, unmeasured=5)


# ---- the page


def commands_of_the_page() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/gpu.md").read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


EXPECTED = {"poll": gpu_run.STATUS["running"], "stop": gpu_run.STATUS["stopped"]}


def test_every_command_of_the_page_is_one() -> None:
    """What each would do is `slow`; that each can be typed is seen at once."""
    commands = commands_of_the_page()
    assert len(commands) == 16
    for command in commands:
        words = shlex.split(command.removeprefix("for pack in parts/*; do ").removesuffix("; done"))
        if words[:2] == ["python", "recipes/carry.py"]:
            carry.parser().parse_args(words[2:])
        elif words[:2] == ["python", "recipes/gpu_run.py"]:
            options, further = gpu_run.parser().parse_known_args(words[2:])
            if options.act is gpu_run.check:
                load_recipe(ROOT / options.recipe, gpu_run._pairs(further))
            elif options.act is gpu_run.start:
                _parser().parse_args(["train", "recipe", "--packs", "packs", "--out", "run", *further])
            else:
                assert not further
        else:
            first = words.index("vqaudio.cli" if words[0] == "torchrun" else "vqaudio")
            _parser().parse_args(words[first + 1 :])


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    """In order, as they stand but for the device, in a folder with a tiny recipe under the name of the page's."""
    commands = commands_of_the_page()
    write_recipe(tiny_recipe(), tmp_path / "recipes/speech_16k")
    for name in ("carry.py", "gpu_run.py"):
        (tmp_path / "recipes" / name).symlink_to(RECIPES / name)
    (tmp_path / "recordings").mkdir()
    for name, split in (("english-1", "train"), ("english-2", "valid")):
        (tmp_path / f"recordings/{name}.flac").symlink_to(ROOT / f"samples/{name}.flac")
        with open(tmp_path / "recordings/manifest.jsonl", "a") as manifest:
            manifest.write(json.dumps({"path": f"{name}.flac", "split": split, "speaker": name}) + "\n")
    try:
        for command in commands:
            typed = command.replace("--device cuda", "--device cpu")
            done = subprocess.run(
                ["bash", "-c", typed], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
            )
            word = command.split()[2] if "gpu_run.py" in command else ""
            assert done.returncode == EXPECTED.get(word, 0), f"{command}\n{done.stdout}\n{done.stderr}"
            if word == "start":
                wait_for(lambda: len(gpu_run.read_entries(tmp_path / "run")) > 40)  # past the measuring of the budget
            if word == "stop":
                assert carry.newest_checkpoint(tmp_path / "run")
    finally:
        process = gpu_run.read_process(tmp_path / "run")
        if process is not None and process.alive:
            os.killpg(process.pid, signal.SIGKILL)
    assert (tmp_path / "home/report.html").exists()
    assert (tmp_path / "two/model/model.safetensors").exists()
    assert json.loads((tmp_path / "two/log.jsonl").read_text().splitlines()[0])["ranks"] == 2
