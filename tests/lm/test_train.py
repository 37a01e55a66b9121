"""Training a language model: it learns, goes on bit for bit where it stopped or was killed, and refuses another run."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.lm.small import chained_codes
from tests.tiny import save_tiny
from vqaudio.cli import main
from vqaudio.code_index import IndexEntry, write_index
from vqaudio.codes import Codes
from vqaudio.lm.config import load_lm_recipe
from vqaudio.lm.model import LanguageModel, load_lm
from vqaudio.lm.train import build_model, learning_rate, token_loss
from vqaudio.tokenizer import AudioTokenizer
from vqaudio.training.state import checkpoints

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = """
name = "small"
num_codebooks = 2
steps = 12
[model]
width = 16
num_layers = 2
num_heads = 2
hidden = 24
[data]
window_seconds = 0.5
batch_size = 3
[optimizer]
warmup_steps = 2
[report]
log_every = 3
validate_every = 4
checkpoint_every = 4
"""
SPEAKERS = {"train": ("anna", "bert", "cleo"), "valid": ("dora",), "test": ("emil", "fred")}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("rvq-projected", tmp_path_factory.mktemp("tokenizer") / "model")


def write_codes(folder: Path, tokenizer: Path, *, num_frames: int = 100) -> Path:
    """A folder of codes that are easily predicted, as if encoded by the tiny tokenizer: 80 frames per second."""
    made = AudioTokenizer.from_pretrained(tokenizer)
    entries = []
    for split, speakers in SPEAKERS.items():
        for number, speaker in enumerate(speakers):
            values = torch.from_numpy(chained_codes(made.codebook_sizes, num_frames, seed=10 * len(split) + number))
            codes = Codes(
                values[None],
                codebook_sizes=made.codebook_sizes,
                sample_rate=made.sample_rate,
                hop_length=made.hop_length,
                num_samples=num_frames * made.hop_length,
                source_sample_rate=made.sample_rate,
                source_num_samples=num_frames * made.hop_length,
                token_fingerprint=made.token_fingerprint,
            )
            (folder / speaker).mkdir(parents=True)
            codes.save(folder / speaker / "1.vqt")
            sha256 = hashlib.sha256((folder / speaker / "1.vqt").read_bytes()).hexdigest()
            entries.append(IndexEntry.of(f"{speaker}/1", codes, sha256, split=split, speaker=speaker))
    write_index(folder, entries)
    return folder


@pytest.fixture(scope="module")
def codes(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_codes(tmp_path_factory.mktemp("codes"), tokenizer)


@pytest.fixture(scope="module")
def recipe(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(f'tokenizer = "{tokenizer}"\n{RECIPE}')
    return path


def command(recipe: Path, codes: Path, out: Path, *more: str) -> list[str]:
    return ["lm", "train", str(recipe), "--codes", str(codes), "--out", str(out), *more]


@pytest.fixture(scope="module")
def whole(recipe: Path, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("run") / "whole"
    assert main(command(recipe, codes, out)) == 0
    return out


def entries(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "seconds"} for line in lines if line["kind"] == kind
    ]


def test_a_run_leaves_a_model_and_its_log(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [
        "best",
        "checkpoint-00000008",
        "checkpoint-00000012",
        "log.jsonl",
        "model",
    ]
    found = load_lm(whole / "model")
    validations = entries(whole, "validation")
    assert [line["step"] for line in validations] == [4, 8, 12]
    best = min(validations, key=lambda line: line["bits_per_second"])
    assert found.about["step"] == best["step"] and found.about["valid_bits_per_second"] == best["bits_per_second"]
    assert [line["step"] for line in entries(whole, "train")] == [3, 4, 6, 8, 9, 12]


@pytest.mark.parametrize("layout", ["delay", "flat"])
def test_it_learns(layout: str, recipe: Path, codes: Path, tmp_path: Path) -> None:
    overrides = ["--optimizer.learning_rate", "1e-2", "--report.validate_every", "50", "--data.batch_size", "8"]
    text = (
        recipe.read_text().replace("steps = 12", "steps = 50", 1).replace("[model]", f'layout = "{layout}"\n[model]', 1)
    )
    (tmp_path / "recipe.toml").write_text(text)
    assert main(command(tmp_path, codes, tmp_path / "run", *overrides)) == 0
    losses = [line["bits"] for line in entries(tmp_path / "run", "train")]
    assert losses[0] > 4.5 and losses[-1] < losses[0] - 1  # log2 32 = 5 bits a code at first
    (validation,) = entries(tmp_path / "run", "validation")
    assert validation["bits_per_second"] < 80 * 2 * 4.5


KILLED_AT_A_STEP = """
import os, signal, sys
from vqaudio.cli import main
from vqaudio.lm.train import _Run

def step(run, do=_Run._step):
    if run.state.step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return do(run)

_Run._step = step
main(sys.argv[2:])
"""


def test_a_run_that_is_killed_goes_on_as_if_it_never_was(
    recipe: Path, codes: Path, whole: Path, tmp_path: Path
) -> None:
    """With SIGKILL, between two checkpoints: weights, moments and log are those of the run that never stopped."""
    out = tmp_path / "run"
    script = [sys.executable, "-c", KILLED_AT_A_STEP, "6", *command(recipe, codes, out)]
    result = subprocess.run(script, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=280)
    assert result.returncode == -signal.SIGKILL
    assert [path.name for path in checkpoints(out)] == ["checkpoint-00000004"]
    assert main(command(recipe, codes, out)) == 1  # not without being asked
    assert main(command(recipe, codes, out, "--resume", "auto")) == 0
    for name in ("checkpoint-00000012/model", "checkpoint-00000012/optimizer", "best/model", "model/model"):
        ours, theirs = (load_file(folder / f"{name}.safetensors") for folder in (out, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    for kind in ("train", "validation"):
        assert entries(out, kind) == entries(whole, kind)


def test_another_run_is_refused(
    recipe: Path, codes: Path, whole: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(*arguments: str) -> str:
        assert main([*arguments]) == 1
        return capsys.readouterr().err

    assert "already holds a run" in complaint(*command(recipe, codes, whole))
    resumed = ["--resume", "auto"]
    assert "other settings (data.batch_size)" in complaint(
        *command(recipe, codes, whole, *resumed, "--data.batch_size", "4")
    )
    others = write_codes(tmp_path / "others", tokenizer, num_frames=99)
    assert "other codes" in complaint(*command(recipe, others, whole, *resumed))
    (tmp_path / "recipe.toml").write_text(recipe.read_text().replace("num_codebooks = 2", "num_codebooks = 4"))
    assert "wants 4 codebooks" in complaint(*command(tmp_path, codes, tmp_path / "run"))
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("[model]", 'tokenizer = "speech-16k"\n[model]', 1))
    assert "stand for other codes" in complaint(*command(tmp_path, codes, tmp_path / "run"))


def test_a_loss_that_is_no_number_ends_the_run_and_changes_nothing(
    recipe: Path, codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[LanguageModel, dict[str, torch.Tensor]]] = []

    def lost(model: LanguageModel, *arguments: torch.Tensor) -> torch.Tensor:
        seen.append((model, {name: value.detach().clone() for name, value in model.named_parameters()}))
        return token_loss(model, *arguments) * (float("nan") if len(seen) == 3 else 1.0)

    monkeypatch.setattr("vqaudio.lm.train.token_loss", lost)
    assert main(command(recipe, codes, tmp_path / "run")) == 1
    assert "step 2: the loss is nan; lower optimizer.learning_rate" in capsys.readouterr().err
    model, before = seen[-1]
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_padding_and_begin_cost_nothing(recipe: Path, tokenizer: Path) -> None:
    model = build_model(load_lm_recipe(recipe), AudioTokenizer.from_pretrained(tokenizer))
    ids = model.space.special_ids
    targets = torch.tensor([[[3, ids["begin"], 4, ids["pad"]], [ids["pad"], ids["begin"], 5, 6]]])
    logits = torch.zeros(1, 2, 4, model.space.vocab_size)
    logits[..., 0] = 7.0  # wrong everywhere
    some = token_loss(model, logits, targets)
    logits[0, 0, 1, 1] = logits[0, 1, 0, 1] = logits[0, 0, 3, 1] = 50.0  # where nothing is to be predicted
    assert torch.equal(some, token_loss(model, logits, targets))
    logits[0, 0, 0, 3] = 50.0
    assert token_loss(model, logits, targets) < some - 1


def test_the_rate_rises_and_falls(recipe: Path) -> None:
    config = load_lm_recipe(recipe).optimizer
    rates = np.array([learning_rate(config, step, 100) for step in range(100)])
    assert rates.argmax() == 1 and rates[0] == pytest.approx(rates[1] / 2, rel=0.01)
    assert (np.diff(rates[1:]) < 0).all()
    assert rates[-1] == pytest.approx(config.final_fraction * config.learning_rate, rel=0.02)


def test_a_model_follows_from_its_seed(recipe: Path, tokenizer: Path) -> None:
    made = AudioTokenizer.from_pretrained(tokenizer)
    one, same, other = (
        build_model(load_lm_recipe(recipe, {"seed": seed}), made).state_dict() for seed in ("1", "1", "2")
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_the_recipe_learns_in_twenty_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """recipes/lm_speech as it is, but for its size, on the recordings that ship."""
    made = AudioTokenizer.from_pretrained(load_lm_recipe(ROOT / "recipes/lm_speech").tokenizer)
    entries_of = []
    for split, name in (("train", "english-1.flac"), ("train", "english-2.flac"), ("valid", "french-1.mp3")):
        codes = made.encode(ROOT / "samples" / name, num_codebooks=4, end=3)
        codes.save(tmp_path / f"{name}.vqt")
        entries_of.append(IndexEntry.of(name, codes, "0" * 64, split=split, speaker=name))
    write_index(tmp_path, entries_of)
    small = ["--model.width", "24", "--model.num_heads", "2", "--model.hidden", "32"]
    small += ["--model.num_layers", "2", "--data.window_seconds", "1", "--optimizer.learning_rate", "1e-2"]
    small += ["--optimizer.warmup_steps", "2", "--report.log_every", "5"]
    recipe, small = ROOT / "recipes/lm_speech", [*small, "--steps", "20"]
    assert main(command(recipe, tmp_path, tmp_path / "other", *small, "--tokenizer", "speech-16k-v3")) == 1
    said = capsys.readouterr().err
    assert f"the codes in {tmp_path} are of speech-16k-v4, and the recipe's tokenizer is speech-16k-v3: say --t" in said
    assert not (tmp_path / "other").exists()
    assert main(command(recipe, tmp_path, tmp_path / "run", *small)) == 0
    losses = [line["bits"] for line in entries(tmp_path / "run", "train")]
    assert losses[-1] < losses[0] - 0.2, losses
    assert load_lm(tmp_path / "run/model").model.space.layout.codebook_sizes == (1024, 1024)
    short = ["--num-codebooks", "1", "--layout", "flat", "--seed", "7", *small[:-1], "1"]
    assert main(command(recipe, tmp_path, tmp_path / "short", *short)) == 0
    (start,) = entries(tmp_path / "short", "start")
    assert [start["recipe"][name] for name in ("num_codebooks", "layout", "seed", "steps")] == [1, "flat", 7, 1]
