"""What a wheel would hold, by the patterns of pyproject.toml (in setuptools, which builds it, `**` is that of glob)."""

import tomllib
from pathlib import Path

import vqaudio
from vqaudio.shipped import shipped_models

ROOT = Path(vqaudio.__file__).parent.parent
PACKAGE = ROOT / "vqaudio"
PYPI_LIMIT = 100e6  # bytes


def packaged() -> set[Path]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    kept, left = (
        {path for pattern in tool[table]["vqaudio"] for path in PACKAGE.glob(pattern)}
        for table in ("package-data", "exclude-package-data")
    )
    return kept - left


def test_a_wheel_has_all_of_the_newest_models_and_of_what_doctor_needs() -> None:
    models = shipped_models()
    newest = {folder for name, folder in models.items() if name != folder.name}
    files = packaged()
    for folder in newest:
        assert set(folder.iterdir()) <= files, folder.name
    assert PACKAGE / "pretrained" / "golden.flac" in files
    assert {path.parent for path in files if path.suffix == ".safetensors"} == newest


def test_a_wheel_is_small_enough_to_be_published() -> None:
    assert sum(path.stat().st_size for path in packaged()) < 0.9 * PYPI_LIMIT
