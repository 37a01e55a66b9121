"""Models by name: those that ship inside the package, and folders."""

import json
import re
from pathlib import Path

from vqaudio import pretrained
from vqaudio.checkpoint import CONFIG_NAME, CheckpointError


def shipped_models() -> dict[str, Path]:
    """Name -> folder of each model in the package, versions in order, and of the alias without version."""
    found = {}
    for folder in Path(pretrained.__file__).parent.iterdir():
        match = re.fullmatch(r"(.+)-v(\d+)", folder.name)
        if match and (folder / CONFIG_NAME).is_file():
            found[match[1], int(match[2])] = folder
    models = {}
    for (alias, _), folder in sorted(found.items()):
        models[folder.name] = folder
        models[alias] = folder  # the last of its versions stays
    return models


def model_of_tokens(token_fingerprint: str) -> str:
    """For messages: the name of the newest shipped model that reads codes of this fingerprint, or that none does."""
    found = "a model that does not ship"
    for folder in shipped_models().values():
        document = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        if document["token_fingerprint"] == token_fingerprint:
            found = folder.name
    return found


def find_model(name_or_folder: str | Path) -> Path:
    """The folder of a shipped model or the folder given; a name that ships comes before a folder of that name."""
    models = shipped_models()
    if isinstance(name_or_folder, str) and name_or_folder in models:
        return models[name_or_folder]
    if name_or_folder != "" and Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    known = ", ".join(sorted(models)) or "none"
    raise CheckpointError(
        f"{name_or_folder or repr(name_or_folder)}: neither a folder nor a model that ships with vqaudio ({known})"
    )
