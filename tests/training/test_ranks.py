"""Two processes of torchrun are one run: the same weights and codebooks on both, near those of one process alone."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_loop import lines
from tests.training.test_stages import staged
from vqaudio import ranks
from vqaudio.checkpoint import load_codec
from vqaudio.quantize import VQConfig
from vqaudio.training.loop import train
from vqaudio.training.recipe import Recipe
from vqaudio.training.state import checkpoints

ROOT = Path(__file__).resolve().parent.parent.parent


def shared() -> Recipe:
    """All stages in 20 steps, an odd batch, codes that are revived."""
    recipe = staged()
    quantizer = dataclasses.replace(recipe.codec.quantizer, revive_below=0.6)  # type: ignore[arg-type]
    return dataclasses.replace(
        recipe,
        steps=20,
        data=dataclasses.replace(recipe.data, batch_size=5),
        codec=dataclasses.replace(recipe.codec, quantizer=quantizer),
    )


def run_on_two(packs: Path, out: Path, what: str) -> list[dict[str, Any]]:
    out.mkdir()
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "tests.training.ranks_program", str(packs), str(out), what,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    written = [out / f"rank-{number}.json" for number in range(2)]
    # On a busy machine a process may abort (SIGABRT) while it ends, after its last line: docs/training.md tells of it.
    # Whatever ends one before that is a failure.
    aborted_at_the_end = "exitcode: -6" in result.stderr and all(path.exists() for path in written)
    assert result.returncode == 0 or aborted_at_the_end, result.stderr
    return [json.loads(path.read_text()) for path in written]


@pytest.fixture(scope="module")
def together(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("ranks") / "two"
    return out, run_on_two(packs, out, "nothing")


def test_ranks_hold_the_same_weights_and_codebooks_after_every_step(
    together: tuple[Path, list[dict[str, Any]]],
) -> None:
    out, (first, second) = together
    assert first["digests"] == second["digests"]
    assert len(set(first["digests"].values())) == 20
    assert any(sum(line.get("revived", ())) > 0 for line in lines(out, "train"))


def test_two_ranks_train_as_one_with_the_whole_batch(
    together: tuple[Path, list[dict[str, Any]]], packs: Path, tmp_path: Path
) -> None:
    train(shared(), packs, tmp_path / "one")
    two, one = (lines(out, "train") for out in (together[0], tmp_path / "one"))
    volatile = {"seconds", "step_seconds", "data_wait_seconds", "residual_energy"}
    # Steps 1 to 4 choose no codes: nothing but the order of sums differs. Later, choices that were close do.
    for ours, theirs, tolerance in zip(two, one, [1e-4] * 2 + [0.1] * 8, strict=True):
        assert set(ours) == set(theirs)
        for name in set(ours) - volatile - {"kind", "revived"}:
            if tolerance < 0.1 or "norm" not in name:
                assert ours[name] == pytest.approx(theirs[name], rel=tolerance, abs=1e-3), (ours["step"], name)
    assert two[2]["revived"] == one[2]["revived"]


def test_one_rank_writes(together: tuple[Path, list[dict[str, Any]]]) -> None:
    out, _ = together
    assert [line["step"] for line in lines(out, "train")] == list(range(2, 21, 2))
    (start,) = lines(out, "start")
    assert start["ranks"] == 2
    assert load_codec(out / "model")[1].about["steps"] == 20


def test_a_bad_batch_on_one_rank_is_skipped_by_both(packs: Path, tmp_path: Path) -> None:
    first, second = run_on_two(packs, tmp_path / "bad", "bad")
    assert first["digests"] == second["digests"]
    assert first["digests"]["7"] == first["digests"]["6"]
    assert [line["step"] for line in lines(tmp_path / "bad", "skipped")] == [7]


def test_a_signal_to_one_rank_stops_both_at_the_same_step(packs: Path, tmp_path: Path) -> None:
    first, second = run_on_two(packs, tmp_path / "stop", "stop")
    assert "stopped after step 8 of 20" in first["stopped"] and "stopped after step 8 of 20" in second["stopped"]
    assert [path.name for path in checkpoints(tmp_path / "stop")] == ["checkpoint-00000008"]


# ---- the exchanges by themselves

EXCHANGES = """
import json, sys
import torch
import torch.distributed as dist
from vqaudio import ranks
store, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
rows = torch.arange(6.0).view(3, 2) if rank == 0 else torch.tensor([[10.0, 11.0]])
total, first = torch.tensor([1.0, rank]), torch.tensor([float(rank)])
ranks.sum_over_ranks([total])
ranks.send_from_first([first])
print(json.dumps({
    "gathered": ranks.gathered(rows).tolist(),
    "total": total.tolist(),
    "first": first.tolist(),
    "agreed": [ranks.agreed(True), ranks.agreed(rank == 0), ranks.agreed(rank == 1)],
    "share": [list(range(7)[ranks.share(7)]), list(range(1)[ranks.share(1)])],
}))
"""


def test_what_two_processes_exchange_is_the_same_on_both(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXCHANGES, str(tmp_path / "store"), str(rank)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=60) for process in processes]
    first, second = (json.loads(output) if output else errors for output, errors in outputs)
    assert first.pop("share") == [[0, 1, 2], []]
    assert second.pop("share") == [[3, 4, 5, 6], [0]]
    assert first == second
    assert first["gathered"] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [10.0, 11.0]]
    assert first["total"] == [2.0, 1.0] and first["first"] == [0.0]
    assert first["agreed"] == [True, False, False]


# ---- alone


def test_alone_every_exchange_is_the_identity() -> None:
    rows = torch.arange(6.0).view(3, 2)
    assert ranks.count() == 1 and ranks.rank() == 0
    assert ranks.share(7) == slice(0, 7)
    assert ranks.gathered(rows) is rows
    assert ranks.agreed(True) and not ranks.agreed(torch.tensor(False))
    ranks.sum_over_ranks([rows])
    ranks.send_from_first([rows])
    assert torch.equal(rows, torch.arange(6.0).view(3, 2))


def test_several_processes_must_not_revive_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = VQConfig(dim=4, codebook_size=8).build()
    monkeypatch.setattr(ranks, "count", lambda: 2)
    with pytest.raises(ValueError, match="several processes need a generator"):
        quantizer(torch.randn(1, 4, 10))
