"""The scripts beside the recipes as modules, and a recipe as the TOML that they are given."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes"


def script(name: str) -> ModuleType:
    """recipes/NAME.py, under its own name, as the scripts import each other."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[name]


def toml(tree: dict[str, Any], path: str = "") -> str:
    """A tree of numbers, texts, lists and tables as TOML: JSON but for the tables."""
    plain = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    lines = [f"[{path}]"] * bool(path) + [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    tables = [toml(tree[key], f"{path}.{key}" if path else key) for key in tree if key not in plain]
    return "\n".join(lines) + "\n" + "".join(tables)
