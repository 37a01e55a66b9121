"""The three stages: they switch at their steps, what is frozen stays, and a killed run goes through them all alike."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from tests.training.test_loop import lines, tensors
from vqaudio.checkpoint import load_codec
from vqaudio.data import PackedAudio
from vqaudio.training import RunStoppedError
from vqaudio.training.loop import Run, train
from vqaudio.training.recipe import STAGES, Recipe, StagesConfig
from vqaudio.training.state import checkpoints
from vqaudio.training.step import Plan, train_step

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS, ADVERSARIAL, DECODER = 40, 16, 28


def staged() -> Recipe:
    from tests.training.conftest import recipe

    tiny: Recipe = recipe.__wrapped__()  # type: ignore[attr-defined]
    return dataclasses.replace(
        tiny,
        steps=STEPS,
        stages=StagesConfig(reconstruction=0.4, adversarial=0.3, decoder=0.3),
        optimizer=dataclasses.replace(tiny.optimizer, average_decay=0.9),
        report=dataclasses.replace(tiny.report, checkpoint_every=10, validate_every=8, samples_every=100),
    )


@pytest.fixture(scope="module")
def finished(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 steps through all stages that were never interrupted, with what moved in each step."""
    out = tmp_path_factory.mktemp("staged") / "whole"
    run_to_the_end(packs, out)
    return out


# ---- the schedule


@given(
    shares=st.tuples(*[st.floats(0, 1)] * 3).filter(lambda shares: sum(shares) > 0.01), total=st.integers(1, 100_000)
)
def test_every_step_has_a_stage_and_they_come_in_order(shares: tuple[float, float, float], total: int) -> None:
    stages = StagesConfig(reconstruction=shares[0], adversarial=shares[1], decoder=shares[2])
    first = stages.first_steps(total)
    assert first["reconstruction"] == 0 <= first["adversarial"] <= first["decoder"] <= total
    borders = {step + d for step in first.values() for d in (-1, 0)} & set(range(total))
    marks = sorted({0, total - 1} | borders)
    order = [STAGES.index(stages.at(step, total)) for step in marks]
    assert order == sorted(order)
    for stage, begins in first.items():
        later = [first[other] for other in STAGES[STAGES.index(stage) + 1 :]] + [total]
        if stages.shares()[stage] > 0 and begins < min(later):
            assert stages.at(begins, total) == stage
            assert begins == 0 or stages.at(begins - 1, total) != stage


def test_without_shares_there_is_one_stage() -> None:
    assert StagesConfig().at(999, 1000) == "reconstruction"
    assert not StagesConfig().plays
    assert StagesConfig(reconstruction=0, adversarial=2, decoder=2).at(0, 100) == "adversarial"


# ---- a run through them


def test_stages_switch_at_their_steps(finished: Path) -> None:
    assert [(line["step"], line["name"]) for line in lines(finished, "stage")] == [
        (0, "reconstruction"),
        (ADVERSARIAL, "adversarial"),
        (DECODER, "decoder"),
    ]
    playing = [line["step"] for line in lines(finished, "train") if "discriminator" in line]
    assert playing == list(range(ADVERSARIAL + 2, STEPS + 1, 2))


def test_only_who_is_in_the_game_moves(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[set[str]] = []
    step = Run._step

    def watched(self: Run, batch: Any, state: Any) -> Any:
        assert self.learners.discriminators is not None
        parts = {name: self.learners.trained.get_submodule(name) for name in ("encoder", "quantizer", "decoder")} | {
            "discriminators": self.learners.discriminators.network
        }
        before = {name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in parts.items()}
        result = step(self, batch, state)
        moved.append(
            {
                name
                for name, part in parts.items()
                if any(not torch.equal(value, before[name][key]) for key, value in part.state_dict().items())
            }
        )
        return result

    monkeypatch.setattr(Run, "_step", watched)
    train(staged(), packs, tmp_path / "run")
    codec = {"encoder", "quantizer", "decoder"}
    assert moved[:4] == [{"encoder", "decoder"}] * 4  # before the quantiser is there
    assert moved[4:ADVERSARIAL] == [codec] * (ADVERSARIAL - 4)
    assert moved[ADVERSARIAL:DECODER] == [codec | {"discriminators"}] * (DECODER - ADVERSARIAL)
    assert moved[DECODER:] == [{"decoder", "discriminators"}] * (STEPS - DECODER)


def test_games_may_be_few(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = []
    step = Run._step

    def watched(self: Run, batch: Any, state: Any) -> Any:
        result = step(self, batch, state)
        if "discriminator" in result.parts:
            played.append(state.step)
        return result

    monkeypatch.setattr(Run, "_step", watched)
    recipe = staged()
    recipe = dataclasses.replace(recipe, adversarial=dataclasses.replace(recipe.adversarial, every=5))
    train(recipe, packs, tmp_path / "run")
    assert played == [20, 25, 30, 35]


def test_the_decoder_learns_to_read_the_very_codes_that_ship(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, torch.Tensor] = {}
    step = Run._step

    def watched(self: Run, batch: Any, state: Any) -> Any:
        if state.step == DECODER:
            kept.update({k: v.clone() for k, v in self.learners.trained.state_dict().items()})
        return step(self, batch, state)

    monkeypatch.setattr(Run, "_step", watched)
    shipped, _ = load_codec(train(staged(), packs, tmp_path / "run"))
    for name, value in shipped.state_dict().items():
        if name.startswith(("encoder.", "quantizer.")) and not name.endswith(("ema_counts", "ema_sums")):
            assert torch.equal(value, kept[name]), name
    assert not torch.equal(shipped.decoder.layers[0].conv.weight, kept["decoder.layers.0.conv.weight"])  # type: ignore[index, union-attr]


def test_the_best_of_the_last_stage_is_a_model(finished: Path) -> None:
    codec, info = load_codec(finished / "best")
    last = [line for line in lines(finished, "validation") if line["step"] > DECODER]
    best = min(last, key=lambda line: line["reconstruction"])
    assert info.about["steps"] == best["step"]
    assert info.about["validation"]["reconstruction"] == best["reconstruction"]
    assert codec.codebook_sizes == (16, 16, 16)


def test_what_ships_is_the_average(packs: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(staged(), steps=8, stages=StagesConfig())
    seen: list[torch.Tensor] = []
    step = Run._step
    with pytest.MonkeyPatch.context() as patch:

        def watched(self: Run, batch: Any, state: Any) -> Any:
            result = step(self, batch, state)
            seen.append(self.learners.trained.decoder.layers[0].conv.bias.detach().clone())  # type: ignore[index, union-attr]
            return result

        patch.setattr(Run, "_step", watched)
        shipped, _ = load_codec(train(recipe, packs, tmp_path / "run"))
    average = torch.zeros_like(seen[0])  # as the bias begins
    for number, value in enumerate(seen, start=1):
        decay = min(0.9, number / (number + 10))
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(shipped.decoder.layers[0].conv.bias, average.half().float(), rtol=2e-3, atol=1e-7)  # type: ignore[index, union-attr]


# ---- killed, stopped, resumed

CUT = """
import os, signal, sys
import torch
from tests.training.test_stages import staged
from vqaudio.training.loop import Run, train
torch.set_num_threads(1)
step, at, number = Run._step, int(sys.argv[3]), int(sys.argv[4])
def cut(self, batch, state):
    if state.step == at:
        os.kill(os.getpid(), number)
    return step(self, batch, state)
Run._step = cut
train(staged(), sys.argv[1], sys.argv[2], resume="auto")
"""


def run_until(packs: Path, out: Path, *, step: int, signal_number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CUT, str(packs), str(out), str(step), str(int(signal_number))]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def run_to_the_end(packs: Path, out: Path) -> None:
    """In a process of its own, begun or resumed: libraries of other tests have left this one in a state of theirs."""
    ended = run_until(packs, out, step=-1, signal_number=signal.SIGKILL)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("step", [20, 35])
def test_a_run_killed_in_a_later_stage_resumes_to_the_same_bits(
    step: int, packs: Path, finished: Path, tmp_path: Path
) -> None:
    """20 steps, kill -9, 20 more, are 40 steps; and so in the stage of the decoder, from the checkpoint at 30."""
    out = tmp_path / "killed"
    ended = run_until(packs, out, step=step, signal_number=signal.SIGKILL)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert checkpoints(out)[0].name == f"checkpoint-{step // 10 * 10:08d}"
    run_to_the_end(packs, out)
    assert tensors(out) == tensors(finished)
    for name in ("model", "best"):
        ours, theirs = (folder / name / "model.safetensors" for folder in (out, finished))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert lines(out, "stage") == lines(finished, "stage")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_saves_first(number: int, packs: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    ended = run_until(packs, out, step=23, signal_number=number)
    assert "RunStoppedError: stopped after step 24 of 40" in ended.stderr
    assert checkpoints(out)[0].name == "checkpoint-00000024"
    run_to_the_end(packs, out)
    assert tensors(out) == tensors(finished)


def test_the_command_line_says_how_it_was_stopped(packs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "recipe.toml").write_text('name = "small"\nsteps = 100000\n[codec.encoder]\nchannels = 8\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "vqaudio.cli", "train", str(tmp_path), "--packs", str(packs), "--out", str(out),
         "--report.log-every", "1"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        while process.poll() is None and not (out / "log.jsonl").exists():
            pass
        while process.poll() is None and '"train"' not in (out / "log.jsonl").read_text():
            pass
        process.terminate()
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.startswith("vqaudio: stopped after step ") and "--resume auto goes on" in errors
    assert len(checkpoints(out)) == 1


def test_a_second_interrupt_ends_at_once(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Run._step

    def twice(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, state)

    monkeypatch.setattr(Run, "_step", twice)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(staged(), packs, tmp_path / "run")
    assert not checkpoints(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stop_is_an_error_of_its_own(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Run._step

    def stopped(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, state)

    monkeypatch.setattr(Run, "_step", stopped)
    with pytest.raises(RunStoppedError, match="stopped after step 4 of 40") as caught:
        train(staged(), packs, tmp_path / "run")
    assert caught.value.signal_number == signal.SIGTERM


# ---- a budget in minutes


def test_minutes_reckon_with_the_cost_of_later_stages(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that only steps move: 1 second each, 3 with discriminators, 2 for the decoder alone."""
    now, step = [0.0], Run._step
    monkeypatch.setattr("vqaudio.training.loop.time.monotonic", lambda: now[0])

    def ticking(self: Run, batch: Any, state: Any) -> Any:
        now[0] += 1.0
        return step(self, batch, state)

    def rehearsed(self: Run, stage: str) -> float:
        return {"adversarial": 3.0, "decoder": 2.0}[stage]

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", ticking)
        patch.setattr(Run, "_rehearse", rehearsed)
        train(staged(), packs, tmp_path / "run", minutes=2.0)
    (budget,) = lines(tmp_path / "run", "budget")
    assert budget["total_steps"] == int(2 * 60 * 0.94 / (0.4 * 1 + 0.3 * 3 + 0.3 * 2))


def test_minutes_reckon_with_codes_that_are_not_learned_yet(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that only steps move: 1 second each without codes, which is all that is measured, and 3 with them."""
    now, before_codes = [0.0], 35

    def ticking(codec: Any, objective: Any, audio: Any, plan: Plan, **options: Any) -> Any:
        now[0] += 3.0 if plan.quantize else 1.0
        return train_step(codec, objective, audio, plan, **options)

    monkeypatch.setattr("vqaudio.training.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("vqaudio.training.loop.train_step", ticking)
    recipe = staged()
    schedule = dataclasses.replace(recipe.quantizer, quantize_after=before_codes)
    recipe = dataclasses.replace(recipe, stages=StagesConfig(), quantizer=schedule)
    train(recipe, packs, tmp_path / "run", minutes=2.0)
    (budget,) = lines(tmp_path / "run", "budget")
    total = budget["total_steps"]
    assert (
        before_codes * 1 + (total - before_codes) * 3
        <= 2 * 60 * 0.94
        < before_codes * 1 + (total + 1 - before_codes) * 3
    )
    assert (budget["before_quantizing_seconds"], budget["step_seconds"]) == (1.0, {"reconstruction": 3.0})


def test_a_rehearsal_reckons_with_steps_between_games(packs: Path, tmp_path: Path) -> None:
    recipe = staged()
    recipe = dataclasses.replace(recipe, adversarial=dataclasses.replace(recipe.adversarial, every=4))
    run = Run(recipe, PackedAudio(packs, "train"), PackedAudio(packs, "valid"), tmp_path, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_timed", lambda self, stage, *, play: 5.0 if play else 1.0)
        assert run._rehearse("decoder") == 2.0
        assert run._rehearse("reconstruction") == 1.0


def test_a_rehearsal_leaves_no_trace(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rehearsed = tmp_path / "whole", tmp_path / "rehearsed"
    recipe = dataclasses.replace(staged(), steps=32)
    train(recipe, packs, whole)
    rehearse = Run._rehearse
    times: list[float] = []
    step = Run._step

    def with_rehearsal(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 5:
            times.extend(rehearse(self, stage) for stage in ("adversarial", "decoder"))  # type: ignore[arg-type]
        return step(self, batch, state)

    monkeypatch.setattr(Run, "_step", with_rehearsal)
    train(recipe, packs, rehearsed)
    assert len(times) == 2 and min(times) > 0
    assert tensors(rehearsed) == tensors(whole)


def test_checkpoints_hold_both_players(finished: Path) -> None:
    newest = checkpoints(finished)[0]
    names = {path.name for path in newest.glob("*.safetensors")}
    assert names == {
        "average.safetensors",
        "codec.safetensors",
        "codec.optimizer.safetensors",
        "discriminators.safetensors",
        "discriminators.optimizer.safetensors",
    }
    assert set(json.loads((newest / "state.json").read_text())["sha256"]) == names
