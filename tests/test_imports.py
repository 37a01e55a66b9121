"""The stairs: a module imports from its own step or a lower one, never from a higher one, and never in a circle.

Whoever reads step n then only has to know the steps below it, a low module can be used without the high ones, and no
change up there can break anything down here. If a test here is red:

- "imports upwards": move the shared piece down to the lower module, or hand the higher thing in as an argument;
- "not on the stairs": a new module; decide where it stands and add it to STEPS below;
- "in a circle": let both import a third module, or merge the two.

Imports inside functions and under TYPE_CHECKING count as well: they are the same dependency, written less visibly.
"""

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vqaudio"

# First part of the name below `vqaudio` -> step. "" is vqaudio/__init__.py: it may import anything, and of the modules
# only the command line, on the same step, may import it.
STEPS = {
    "config": 0,
    "containers": 0,
    "device": 0,
    "io": 0,
    "dsp": 0,
    "ranks": 0,
    "codes": 0,
    "pretrained": 0,  # trained models; no code
    "code_index": 1,
    "code_stream": 1,
    "pcm": 1,
    "source": 1,
    "nn": 1,
    "layouts": 1,
    "quantize": 2,
    "discriminators": 2,
    "losses": 2,
    "metrics": 2,
    "models": 3,
    "checkpoint": 4,
    "engine": 4,
    "coding": 5,
    "shipped": 5,
    "tokenizer": 5,
    "session": 5,
    "data": 5,
    "doctor": 6,
    "training": 6,
    "evaluation": 7,
    "hf": 7,
    "lm": 7,
    "cli": 8,
    "": 8,
}
ONLY_IMPORTER = {"torchaudio": "dsp", "soundfile": "io"}


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below the folder `package`; an `__init__.py` bears its folder's name."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(path: Path, known: set[str]) -> list[tuple[int, str]]:
    """(line, dotted name) of all that a file imports; `from a import b` is a.b where that is a module, else a."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = {f"{base}.{alias.name}" for alias in node.names}
            found += [(node.lineno, name) for name in sorted(names & known) or [base]]
            if names & known and names - known:
                found.append((node.lineno, base))
    return found


def complaints(package: Path) -> list[str]:
    """One sentence for each import that breaks the rule; empty for a good house."""
    modules = modules_of(package)
    graph: dict[str, set[str]] = {}
    found = []
    for module, path in modules.items():
        place = module.partition(".")[2].partition(".")[0]
        if place not in STEPS:
            found.append(f"{module} is not on the stairs: add {place!r} to STEPS in {Path(__file__).name}")
            continue
        graph[module] = set()
        for line, imported in imports_of(path, set(modules)):
            where = f"{path.relative_to(package.parent)}:{line}"
            head, _, rest = imported.partition(".")
            if imported.startswith("."):
                found.append(f"{where} is a relative import; write the whole name")
            elif head in ONLY_IMPORTER and place != ONLY_IMPORTER[head]:
                found.append(f"{where} imports {head}, which only vqaudio/{ONLY_IMPORTER[head]}.py may do")
            elif head == "vqaudio":
                graph[module].add(imported)
                target = rest.partition(".")[0]
                if target in STEPS and STEPS[target] > STEPS[place]:
                    found.append(f"{where} imports upwards: {imported} (step {STEPS[target]}) into step {STEPS[place]}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("modules import each other in a circle: " + " <- ".join(error.args[1]))
    return found


def test_imports_go_down_the_stairs() -> None:
    assert complaints(PACKAGE) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"io.py": "from vqaudio.models import codec"}, "vqaudio/io.py:1 imports upwards"),
        ({"nn/conv.py": "def f():\n    import vqaudio.tokenizer"}, "vqaudio/nn/conv.py:2 imports upwards"),
        ({"engine.py": "from vqaudio import engine, training", "training/__init__.py": ""}, "imports upwards"),
        ({"metrics.py": "from vqaudio import AudioTokenizer"}, "imports upwards: vqaudio"),
        ({"helpers.py": ""}, "vqaudio.helpers is not on the stairs"),
        ({"io.py": "from .codes import Codes"}, "relative import"),
        ({"metrics.py": "from torchaudio.functional import resample"}, "only vqaudio/dsp.py may do"),
        ({"data/packed.py": "import soundfile as sf"}, "only vqaudio/io.py may do"),
        ({"io.py": "import vqaudio.dsp", "dsp.py": "from vqaudio import io"}, "in a circle"),
    ],
)
def test_a_wrong_import_is_named(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in {"__init__.py": "", **files}.items():
        path = tmp_path / "vqaudio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert any(expected in complaint for complaint in complaints(tmp_path / "vqaudio"))


def run_fresh(script: str, *arguments: str) -> str:
    """What a script prints in a new interpreter, where nothing has been imported yet."""
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


ENCODE_A_FILE = """
import json, sys
import vqaudio
at_import = sorted(sys.modules)
tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k")
codes = tokenizer.encode(sys.argv[1])
print(json.dumps({"at_import": at_import, "after": sorted(sys.modules), "source_rate": codes.source_sample_rate,
                  "rate": codes.sample_rate}))
"""


def test_encoding_at_the_models_rate_loads_nothing_it_does_not_need(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=8_000)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    report = json.loads(run_fresh(ENCODE_A_FILE, str(tmp_path / "noise.wav")))
    assert report["source_rate"] == report["rate"], "the file has to be at the model's own rate for this test"
    unwanted = ("torchaudio", "librosa", "transformers", "vqaudio.losses", "vqaudio.discriminators")
    for moment in ("at_import", "after"):
        loaded = [name for name in report[moment] if f"{name}.".startswith(tuple(f"{name}." for name in unwanted))]
        assert loaded == [], moment


# torch brings packages of its own (sympy, filelock, ...), so what may be imported is the four with all they require.
TRAIN_WITH_FOUR_PACKAGES = """
import importlib, importlib.metadata, pkgutil, re, sys

def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()

wanted, seen = ["torch", "numpy", "einops", "safetensors"], set()
while wanted:
    name = canonical(wanted.pop())
    if name in seen:
        continue
    seen.add(name)
    try:
        requirements = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        continue
    wanted += [re.match(r"[\\w.-]+", text)[0] for text in requirements if "extra ==" not in text]
top_levels = importlib.metadata.packages_distributions()
allowed = {top for top, owners in top_levels.items() if seen & {canonical(owner) for owner in owners}}
allowed |= {*sys.stdlib_module_names, "vqaudio"}

class Guard:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            # The kind that a missing package raises: torch does without some packages, but catches only this.
            raise ModuleNotFoundError(f"{name} is not among torch, numpy, einops, safetensors and what they require")
        return None

sys.meta_path.insert(0, Guard)
for forbidden in ("soundfile", "tqdm", "tyro"):
    try:
        importlib.import_module(forbidden)
    except ImportError:
        continue
    sys.exit(f"the guard let {forbidden} pass")

import vqaudio.training
for module in pkgutil.walk_packages(vqaudio.training.__path__, "vqaudio.training."):
    importlib.import_module(module.name)
    print(module.name)
"""


def test_training_imports_with_torch_numpy_einops_and_safetensors_alone() -> None:
    assert "vqaudio.training." in run_fresh(TRAIN_WITH_FOUR_PACKAGES)
