"""Which files a command line means, and where their results go.

encode a.wav corpus 'more/**/*.flac' --out codes

a.wav                  -> codes/a.vqt            a file by its name
corpus/anna/1.wav      -> codes/anna/1.vqt       a folder: all below it, as it lies there
more/bert/x/2.flac     -> codes/bert/x/2.vqt     a pattern: as it lies below the part before the first wildcard
"""

import glob
import os
import stat
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

    A file named twice is done once. Files that would overwrite each other's output, or an input, are left out. What
    lies in `out` is no input where a folder above is searched: it may be what an earlier run has left.
    """
    failures: list[str] = []
    found: dict[Path, tuple[Path, Path]] = {}
    for argument in arguments:
        num_before = len(failures)
        matches = list(_expanded(argument, extensions, out, failures))
        if not matches and len(failures) == num_before:
            failures.append(_nothing(argument, extensions))
        for path, relative in matches:
            found.setdefault(normal(path), (path, relative))
    return planned(found, failures, out, suffixes)


def planned(
    found: Mapping[Path, tuple[Path, Path]], failures: Sequence[str], out: Path, suffixes: Sequence[str]
) -> Plan:
    """The tasks of files that were found: path as `normal` has it -> (path as written, path below `out`).

    Links are recordings of their own, as in corpora that keep each content once; of two ways to one file that have one
    output, the first counts.
    """
    failures = [*failures]
    inputs = {path: _real(path) for path, _ in found.values()}
    sources = set(inputs.values())
    claims: dict[Path, dict[Path, Path]] = {}  # output -> real file -> path as written
    for path, relative in found.values():
        claims.setdefault((out / relative).with_suffix(suffixes[0]), {}).setdefault(inputs[path], path)
    tasks = []
    for path, relative in found.values():
        if not relative.stem.strip("."):
            failures.append(f"{path}: without its extension nothing is left of its name; rename it")
            continue
        outputs = tuple((out / relative).with_suffix(suffix) for suffix in suffixes)
        claiming = claims[outputs[0]]
        if claiming[inputs[path]] != path:
            continue
        others = [other for other in claiming.values() if other != path]
        replaced = [output for output in outputs if _real(output) in sources]
        if others:
            failures.append(f"{path}: its output {outputs[0]} is that of {others[0]} too; rename one of them")
        elif replaced:
            failures.append(f"{path}: its output would replace {replaced[0]}, an input; choose another --out")
        else:
            tasks.append(Task(path, outputs))
    return Plan(tuple(tasks), tuple(failures))


def normal(path: Path) -> Path:
    """Absolute, without `..`; links stay what they are."""
    return Path(os.path.abspath(path))


def _real(path: Path) -> Path:
    """The file that a path leads to, as far as that can be found out; unlike `Path.resolve`, never an error."""
    return Path(os.path.realpath(path))


# os.path says False where a path cannot be looked at, for which `Path` raises: one must not cost the others their turn.


def _expanded(argument: str, extensions: Set[str], out: Path, failures: list[str]) -> Iterator[tuple[Path, Path]]:
    """Pairs of a file and its place relative to what was asked for. A file that is not there is one too."""
    path = Path(argument)
    if os.path.isdir(path):
        yield from _below(path, path, extensions, out, failures)
    elif os.path.exists(path) or not glob.has_magic(argument):
        yield path, Path(path.name)
    else:
        base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        for match in sorted(glob.glob(argument, recursive=True)):
            if os.path.isdir(match):
                yield from _below(Path(match), base, extensions, out, failures)
            elif not _left_by_earlier(Path(match), base, out):
                yield Path(match), Path(match).relative_to(base)


def _below(
    folder: Path, base: Path, extensions: Set[str], out: Path, failures: list[str]
) -> Iterator[tuple[Path, Path]]:
    def unreadable(error: OSError) -> None:
        failures.append(f"{error.filename}: cannot be searched ({error.strerror})")

    # hidden ones are other programs', such as the ._NAME.flac that macOS leaves beside NAME.flac
    walk = os.walk(folder, onerror=unreadable)
    paths = [Path(place, name) for place, _, names in walk for name in names if not name.startswith(".")]
    for path in sorted(paths):
        # An index of code files is no token file, though it lies beside and is JSON lines too.
        known = path.suffix.lower() in extensions and not path.name.endswith(INDEX_NAME)
        if known and _may_be_file(path) and not _left_by_earlier(path, base, out):
            yield path, path.relative_to(base)


def _may_be_file(path: Path) -> bool:
    """Not a pipe or a device. What cannot be looked at is tried, so that it is said of it that it cannot be opened."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _left_by_earlier(path: Path, base: Path, out: Path) -> bool:
    """Whether a path found below `base` lies in `out`, which is below `base` itself."""
    place, top = normal(out), normal(base)
    return top in place.parents and place in normal(path).parents


def _nothing(argument: str, extensions: Set[str]) -> str:
    if os.path.isdir(argument):
        return f"{argument}: this folder holds no file with extension {', '.join(sorted(extensions))}"
    return f"{argument}: no file matches this pattern"
