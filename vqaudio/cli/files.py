"""Which files a command line means, and where their results go.

encode a.wav corpus 'more/**/*.flac' --out codes

a.wav                  -> codes/a.vqt            a file by its name
corpus/anna/1.wav      -> codes/anna/1.vqt       a folder: all below it, as it lies there
more/bert/x/2.flac     -> codes/bert/x/2.vqt     a pattern: as it lies below the part before the first wildcard
"""

import glob
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from vqaudio.code_index import INDEX_NAME


@dataclass(frozen=True)
class Task:
    source: Path
    outputs: tuple[Path, ...]  # one for each extension asked for


@dataclass(frozen=True)
class Plan:
    tasks: tuple[Task, ...]
    failures: tuple[str, ...]  # a sentence for each argument or file that is out


def plan(arguments: Sequence[str], out: Path, *, extensions: Set[str], suffixes: Sequence[str]) -> Plan:
    """Files, folders (searched for `extensions`) and patterns -> tasks whose outputs end in `suffixes`.

    A file named twice is done once. Files that would overwrite each other's output, or an input, are left out.
    """
    failures: list[str] = []
    found: dict[Path, tuple[Path, Path]] = {}  # resolved -> (path as written, path below `out`)
    for argument in arguments:
        matches = list(_expanded(argument, extensions))
        if not matches:
            failures.append(_nothing(argument, extensions))
        for path, relative in matches:
            found.setdefault(path.resolve(), (path, relative))
    return planned(found, failures, out, suffixes)


def planned(
    found: Mapping[Path, tuple[Path, Path]], failures: Sequence[str], out: Path, suffixes: Sequence[str]
) -> Plan:
    """The tasks of files that were found: resolved path -> (path as written, path below `out`)."""
    failures = [*failures]
    claims: dict[Path, list[Path]] = {}
    for path, relative in found.values():
        claims.setdefault((out / relative).with_suffix(suffixes[0]), []).append(path)
    tasks = []
    for path, relative in found.values():
        outputs = tuple((out / relative).with_suffix(suffix) for suffix in suffixes)
        others = [other for other in claims[outputs[0]] if other != path]
        replaced = [output for output in outputs if output.resolve() in found]
        if others:
            failures.append(f"{path}: its output {outputs[0]} is that of {others[0]} too; rename one of them")
        elif replaced:
            failures.append(f"{path}: its output would replace {replaced[0]}, an input; choose another --out")
        else:
            tasks.append(Task(path, outputs))
    return Plan(tuple(tasks), tuple(failures))


def _expanded(argument: str, extensions: Set[str]) -> Iterator[tuple[Path, Path]]:
    """Pairs of a file and its place relative to what was asked for. A file that is not there is one too."""
    path = Path(argument)
    if path.is_dir():
        yield from _below(path, path, extensions)
    elif path.exists() or not glob.has_magic(argument):
        yield path, Path(path.name)
    else:
        base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        for match in sorted(glob.glob(argument, recursive=True)):
            if Path(match).is_dir():
                yield from _below(Path(match), base, extensions)
            else:
                yield Path(match), Path(match).relative_to(base)


def _below(folder: Path, base: Path, extensions: Set[str]) -> Iterator[tuple[Path, Path]]:
    for path in sorted(folder.rglob("*")):
        # An index of code files is no token file, though it lies beside and is JSON lines too.
        if path.suffix.lower() in extensions and path.is_file() and not path.name.endswith(INDEX_NAME):
            yield path, path.relative_to(base)


def _nothing(argument: str, extensions: Set[str]) -> str:
    if Path(argument).is_dir():
        return f"{argument}: this folder holds no file with extension {', '.join(sorted(extensions))}"
    return f"{argument}: no file matches this pattern"
