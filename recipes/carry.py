"""A training run between machines that only pass small files: into parts that can be checked, and back.

    python recipes/carry.py pack RUN --out DIR [--megabytes 15] [--what weights|checkpoint|log|all]
    python recipes/carry.py unpack DIR --out RUN

weights: model/, or best/ while there is no model/, byte for byte; checkpoint: the newest whole one, from which `vqaudio
train --resume auto` goes on elsewhere, to the same bits; log: log.jsonl, what the run printed, and of each sample the
original and the newest. A run may go on while it is packed.

A packed folder holds a tar stream cut in parts, and index.json, which is written last: where it is, all is there.

    {"format": "vqaudio-carry", "version": 1, "what": "all",
     "run": {"name": "speech-16k", "settings": SHA-256 of recipe and parent}, "step": 1500,
     "parts": [{"name": "3f2a90c1d4e8-00000.part", "bytes": 15000000, "sha256": …}, …],
     "files": [{"path": "checkpoint-00001500/state.json", "bytes": 9120, "sha256": …}, …],
     "sha256": of all of this as compact JSON with sorted keys, without itself}

Parts are called by the first 12 digits of the SHA-256 of the stream, so that those of two packs never mix unseen. The
same files give the same bytes. `cat *.part | tar x` gets at them without this script, and without its checks.

Only the standard library, and nothing of vqaudio: a machine that merely passes a run on needs no torch.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT, VERSION, INDEX_NAME = "vqaudio-carry", 1, "index.json"
MEGABYTE = 1_000_000
WHAT = ("weights", "checkpoint", "log")
MODELS = ("model", "best")  # the first that is there is the run's model
LOG_NAME, OUTPUT_NAME = "log.jsonl", "background/output.txt"
ATTEMPTS = 3  # a run that goes on may replace what is being read

PART_NAME = re.compile(r"[0-9a-f]{12}-\d{5}\.part")
# All that a pack may hold. No component begins with a dot, so nothing leads out of the run's folder.
INSIDE = re.compile(
    r"(model|best|checkpoint-\d{8})/\w[\w.-]*|samples/\w[\w.-]*\.wav" + f"|{re.escape(LOG_NAME)}|{OUTPUT_NAME}",
    re.ASCII,
)


class CarryError(ValueError):
    """What cannot be packed, or a pack that is not whole; the message names the files."""


class ChangedError(CarryError):
    """The run went on while it was read."""


@dataclass(frozen=True)
class File:
    """A part of the stream, or a file in the run by its path there."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    what: str
    run: dict[str, str]  # name and settings: two runs with the same are one
    step: int
    parts: tuple[File, ...]
    files: tuple[File, ...]


# ---- packing


def pack(run: Path, out: Path, *, what: str = "all", part_bytes: int = 15 * MEGABYTE) -> Index:
    """Write what `run` holds now into the folder `out`. A folder that holds exactly this stays as it is."""
    return write_pack(snapshot_of(run, what), out, part_bytes=part_bytes)


@dataclass(frozen=True)
class Snapshot:
    """What a run held at one moment: files by their paths in it."""

    what: str
    run: dict[str, str]
    step: int
    files: dict[str, bytes]

    def stream(self) -> bytes:
        """A tar file that depends on nothing but the files: no times, no owners, in order of their names."""
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in sorted(self.files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        return written.getvalue()


def snapshot_of(run: Path, what: str) -> Snapshot:
    """Read the files, all in memory: as much as a run holds there when it saves."""
    if not (run / LOG_NAME).is_file():
        raise CarryError(f"{run}: there is no {LOG_NAME} in it; name the folder that vqaudio train had as --out")
    readers: dict[str, Callable[[Path], dict[str, bytes]]] = {
        "weights": _weights,
        "checkpoint": newest_checkpoint,
        "log": _log,
    }
    chosen = WHAT if what == "all" else (what,)
    for attempt in range(ATTEMPTS):
        try:
            files: dict[str, bytes] = {}
            for name in chosen:
                files |= readers[name](run)
            break
        except (ChangedError, FileNotFoundError) as error:
            if attempt == ATTEMPTS - 1:
                raise CarryError(f"{run}: it changes faster than it can be read ({error})") from error
    if not files:
        raise CarryError(f"{run}: it has no {' and no '.join(chosen)} yet")
    steps = [step for step in (_step_of(name, data) for name, data in files.items()) if step is not None]
    identity = _identity(run)
    if identity is None:
        raise CarryError(f"{run / LOG_NAME}: nothing in it says which recipe it is of")
    return Snapshot(what, identity, max(steps, default=0), files)


def write_pack(snapshot: Snapshot, out: Path, *, part_bytes: int) -> Index:
    if part_bytes < 1:
        raise CarryError(f"parts of {part_bytes} bytes are too small; give --megabytes above 0")
    stream = snapshot.stream()
    digest = sha256(stream)
    pieces = {
        f"{digest[:12]}-{number:05d}.part": stream[start : start + part_bytes]
        for number, start in enumerate(range(0, len(stream), part_bytes))
    }
    index = Index(
        snapshot.what,
        snapshot.run,
        snapshot.step,
        tuple(File(name, len(data), sha256(data)) for name, data in pieces.items()),
        tuple(File(name, len(data), sha256(data)) for name, data in sorted(snapshot.files.items())),
    )
    if (out / INDEX_NAME).exists() and read_index(out) == index:
        check_parts(out, index)
        return index
    foreign = [INDEX_NAME] * (out / INDEX_NAME).exists() + _foreign(out, index)
    if foreign:
        raise CarryError(f"{out}: already holds another pack ({', '.join(foreign)}); choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, data in pieces.items():
        write_aside(out / name, data)
    write_aside(out / INDEX_NAME, (json.dumps(_document(index), indent=1) + "\n").encode())
    return index


def _weights(run: Path) -> dict[str, bytes]:
    for name in MODELS:
        folder = run / name
        if folder.is_dir():
            inode = folder.stat().st_ino
            files = _folder(folder)
            if folder.stat().st_ino != inode:
                raise ChangedError(f"{folder} was replaced")
            return files
    return {}


def newest_checkpoint(run: Path) -> dict[str, bytes]:
    """The newest whose files match the hashes in its state.json."""
    for folder in sorted(run.glob(f"checkpoint-{'[0-9]' * 8}"), reverse=True):  # and no copies under longer names
        try:
            files = _folder(folder)
            hashes = json.loads(files[f"{folder.name}/state.json"])["sha256"]
            if all(sha256(files[f"{folder.name}/{name}"]) == digest for name, digest in hashes.items()):
                return files
        except (KeyError, TypeError, ValueError):
            continue
    return {}


def _log(run: Path) -> dict[str, bytes]:
    log = (run / LOG_NAME).read_bytes()
    files = {LOG_NAME: log[: log.rfind(b"\n") + 1]}  # a line that is being written waits for the next time
    newest: dict[str, str] = {}
    for path in sorted((run / "samples").glob("*.wav")):
        number, _, which = path.stem.partition("-")
        newest[number if which.startswith("step-") else path.stem] = path.name
    for name in newest.values():
        files[f"samples/{name}"] = (run / "samples" / name).read_bytes()
    if (run / OUTPUT_NAME).is_file():
        files[OUTPUT_NAME] = (run / OUTPUT_NAME).read_bytes()
    return files


def _folder(folder: Path) -> dict[str, bytes]:
    return {f"{folder.name}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


# ---- unpacking


def unpack(folder: Path, run: Path) -> list[str]:
    """Put what `folder` holds into `run`, new or the same run at an earlier step; the paths that were written.

    Everything is checked before anything is written. What is there already stays, so twice is once.
    """
    index = read_index(folder)
    check_parts(folder, index)
    found = _identity(run)
    if found is not None and found != index.run:
        raise CarryError(f"{run}: holds another run ({found['name']}) than {folder} ({index.run['name']})")
    wanted = [file for file in index.files if not _is_there(run, file)]
    files = dict(_members(folder, index))
    for file in wanted:
        _refuse_older(run, file.name, files[file.name], folder)
    tops = sorted({_top(file.name) for file in wanted}, key=lambda top: (top.startswith("checkpoint-"), top))
    aside = run / f".carry-{index.parts[0].name[:12]}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for top in tops:  # checkpoints last: the log that goes with one is there before it
            for name, data in files.items():
                if _top(name) == top:
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                    (aside / name).write_bytes(data)
            _put_in_place(aside / top, run / top)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [file.name for file in wanted]


def read_index(folder: Path) -> Index:
    path = folder / INDEX_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CarryError(f"{folder}: there is no {INDEX_NAME} in it; it comes last, so the pack is not whole") from None
    except (OSError, ValueError) as error:
        raise CarryError(f"{path}: altered, it cannot be read ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        raise CarryError(f"{path}: not the index of a pack of version {VERSION} (format {FORMAT})")
    try:
        index = Index(
            str(document["what"]),
            {"name": str(document["run"]["name"]), "settings": str(document["run"]["settings"])},
            int(document["step"]),
            tuple(File(str(part["name"]), int(part["bytes"]), str(part["sha256"])) for part in document["parts"]),
            tuple(File(str(file["path"]), int(file["bytes"]), str(file["sha256"])) for file in document["files"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CarryError(f"{path}: altered, {error} is missing or of another kind") from error
    if _document(index) != document:
        raise CarryError(f"{path}: altered, it does not match its own hash")
    strange = [part.name for part in index.parts if not PART_NAME.fullmatch(part.name)]
    strange += [file.name for file in index.files if not INSIDE.fullmatch(file.name)]
    if strange or not index.parts or not index.files:
        raise CarryError(f"{path}: names what no pack holds: {', '.join(strange) or 'nothing'}")
    return index


def check_parts(folder: Path, index: Index) -> None:
    """All parts are here, as they were written, and no others."""
    problems = [f"{name} belongs to another pack" for name in _foreign(folder, index)]
    for part in index.parts:
        path = folder / part.name
        if not path.is_file():
            problems.append(f"{part.name} is missing")
        elif path.stat().st_size != part.bytes or sha256(path.read_bytes()) != part.sha256:
            problems.append(f"{part.name} was altered on the way")
    if problems:
        raise CarryError(f"{folder}: {'; '.join(problems)}")


def _foreign(folder: Path, index: Index) -> list[str]:
    known = {part.name for part in index.parts}
    return sorted(path.name for path in folder.glob("*.part") if path.name not in known)


def _members(folder: Path, index: Index) -> Iterator[tuple[str, bytes]]:
    """The files in the stream: exactly those of the index, in its order."""
    stream = io.BytesIO(b"".join((folder / part.name).read_bytes() for part in index.parts))
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for file in index.files:
                entry = tar.next()
                data = tar.extractfile(entry) if entry is not None and entry.isreg() else None
                if entry is None or data is None or entry.name != file.name:
                    raise CarryError(f"{folder}: the parts do not hold {file.name} where the index says")
                content = data.read()
                if len(content) != file.bytes or sha256(content) != file.sha256:
                    raise CarryError(f"{folder}: {file.name} in the parts is not what the index says")
                yield file.name, content
            if tar.next() is not None:
                raise CarryError(f"{folder}: the parts hold more than the index says")
    except tarfile.TarError as error:
        raise CarryError(f"{folder}: the parts are no tar stream ({error})") from error


def _is_there(run: Path, file: File) -> bool:
    """The file itself, or one of those that grow, grown since."""
    path = run / file.name
    if not path.is_file() or (path.stat().st_size != file.bytes and file.name not in (LOG_NAME, OUTPUT_NAME)):
        return False
    return sha256(path.read_bytes()[: file.bytes]) == file.sha256


def _refuse_older(run: Path, name: str, data: bytes, folder: Path) -> None:
    path = run / name
    if not path.is_file():
        return
    there, brought = _step_of(name, path.read_bytes()), _step_of(name, data)
    if there is not None and brought is not None and there > brought:
        raise CarryError(f"{path}: is at step {there}, past the {brought} of {folder}; choose another --out")


def _put_in_place(aside: Path, final: Path) -> None:
    """Rename a file, or a folder whole; samples and what was printed join those that are there."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if aside.is_dir() and final.name in ("samples", "background"):
        for path in sorted(aside.iterdir()):
            _put_in_place(path, final / path.name)
        return
    if final.is_dir():  # a model is never absent for longer than between two renames
        before = aside.with_name(f"{final.name}.before")
        os.replace(final, before)
    os.replace(aside, final)


# ---- what both need


def _identity(run: Path) -> dict[str, str] | None:
    """Of which recipe and parent a run is, by whatever of it is here; None where nothing says."""
    states = sorted(run.glob("checkpoint-*/state.json"))
    for path in (run / LOG_NAME, *states, *(run / name / "config.json" for name in MODELS)):
        try:
            with open(path, encoding="utf-8") as file:
                document = json.loads(file.readline() if path.name == LOG_NAME else file.read())
            told = document["about"] if path.name == "config.json" else document
            settings = json.dumps([told["recipe"], told.get("parent")], sort_keys=True)
            return {"name": str(told["recipe"]["name"]), "settings": sha256(settings.encode())}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _step_of(name: str, data: bytes) -> int | None:
    """How far the run was when it wrote a file; None where the file does not tell."""
    try:
        if name == LOG_NAME:
            lines = data[: data.rfind(b"\n") + 1].splitlines()
            return int(json.loads(lines[-1])["step"]) if lines else None
        if name.endswith("/config.json"):
            return int(json.loads(data)["about"]["steps"])
        if name.endswith("/state.json"):
            return int(json.loads(data)["state"]["step"])
    except (ValueError, KeyError, TypeError):
        pass
    return None


def _top(name: str) -> str:
    return name.partition("/")[0]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _document(index: Index) -> dict[str, Any]:
    parts = [asdict(part) for part in index.parts]
    files = [{"path": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in index.files]
    head = {"format": FORMAT, "version": VERSION, "what": index.what, "run": index.run, "step": index.step}
    document = {**head, "parts": parts, "files": files}
    return {**document, "sha256": sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())}


def write_aside(path: Path, data: bytes) -> None:
    aside = path.with_suffix(".partial")
    aside.write_bytes(data)
    os.replace(aside, path)


# ---- the command line


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A training run, carried in small parts that can be checked.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="a run -> parts and index.json")
    packing.add_argument("run", type=Path, metavar="RUN", help="what vqaudio train had as --out")
    packing.add_argument("--out", type=Path, required=True, metavar="DIR")
    packing.add_argument("--megabytes", type=float, default=15, help="of a part at most; default: %(default)s")
    packing.add_argument("--what", choices=(*WHAT, "all"), default="all", help="default: %(default)s")
    unpacking = commands.add_parser("unpack", help="parts and index.json -> a run, new or at an earlier step")
    unpacking.add_argument("folder", type=Path, metavar="DIR")
    unpacking.add_argument("--out", type=Path, required=True, metavar="RUN")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.command == "pack":
            index = pack(options.run, options.out, what=options.what, part_bytes=int(options.megabytes * MEGABYTE))
            total, count = sum(part.bytes for part in index.parts) / MEGABYTE, len(index.parts)
            print(f"{options.out}: step {index.step}, {len(index.files)} files, {total:.1f} MB in {count} parts")
        else:
            written = unpack(options.folder, options.out)
            print(
                f"{options.out}: {', '.join(sorted({_top(name) for name in written})) or 'all of it was there already'}"
            )
    except (CarryError, OSError) as error:
        print(f"carry: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
