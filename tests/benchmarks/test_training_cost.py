"""benchmarks/training.py: its packs are packs, its table says what was measured, what is too long is not begun."""

import json
import re
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from vqaudio.data import PackedAudio

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = util.spec_from_file_location("training_benchmark", BENCHMARKS / "training.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PART_BYTES", 2_000_000)
    return module


def test_the_packs_are_whole_packs_at_the_rate(benchmark: ModuleType, tmp_path: Path) -> None:
    folder = benchmark.synthetic_packs(tmp_path / "packs", 8_000)
    for split, seconds in (("train", 120), ("valid", 40)):
        packed = PackedAudio(folder, split)
        packed.verify()
        assert (packed.sample_rate, packed.seconds) == (8_000, seconds)
        assert abs(packed.clip(0)).max() > 1000


def test_the_table_is_that_of_the_results_and_says_what_was_not_measured(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "training.json"
    arguments = ["training.py", "--recipes", "vqvae_16k", "musdb18_44k", "--steps", "3", "--minutes", "0"]
    monkeypatch.setattr(benchmark, "BIG", 0.0)  # the small recipe tells how long the large one would take
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(out)])
    benchmark.main()
    results = json.loads(out.read_text())
    text = benchmark.report(results)
    assert text.startswith("| recipe | stage |")
    assert re.search(r", one thread; \d+ minutes. The longest wait for data is ", text)
    assert "| vqvae_16k | reconstruction | 16,000 | 8 × 0.5 s | 0.15 |" in text
    assert "| musdb18_44k | – | 44,100 | 16 × 1 s |" in text and "not measured: would take" in text
    assert text in capsys.readouterr().out
    measured, left_out = results["recipes"]
    assert measured["stages"][0]["steps"] == 2
    assert 0 <= measured["stages"][0]["data_share"] < 1
    assert "stages" not in left_out
