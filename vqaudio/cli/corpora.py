"""What `vqaudio prepare` takes: a folder or manifest by itself, or the name of a corpus and the folder that holds it.

One word is a folder or a manifest, two are a name and a folder. A word that is a name is never taken for a folder.
"""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from vqaudio.cli.coding import UsageError
from vqaudio.cli.reporting import progress_bar, say, show
from vqaudio.data.download import download
from vqaudio.data.manifest import Dropped, Manifest
from vqaudio.data.sources import CORPORA, Corpus, SourceError

FOLDER = "folder"  # the name for what has none: any folder, as if it were given alone
NAMES = (*CORPORA, FOLDER)


@dataclass(frozen=True)
class Source:
    """What to prepare, and what was left out of it already."""

    recordings: Path | Manifest
    dropped: tuple[Dropped, ...] = ()


def find_source(options: Namespace) -> Source:
    """The recordings that a command line means; fetched first, if it says so."""
    name, root = options.source, options.root
    if root is None or name == FOLDER:
        if options.download or options.part:
            raise UsageError(f"--download and --part go with a corpus: prepare NAME ROOT, with {_any_of(CORPORA)}")
        if root is None:
            _check_single(name)
        return Source(Path(name if root is None else root))
    if name not in CORPORA:
        raise UsageError(
            f"{name} is not a corpus{_nearest(name, NAMES)} Known: {_any_of(NAMES)}. A folder goes alone: prepare DIR"
        )
    corpus = CORPORA[name]
    _check_parts(name, corpus, options.part)
    say(f"{corpus.title}, licence: {corpus.licence}; {corpus.page}")
    if options.download:
        _download(name, corpus, root, options.part or corpus.default_parts)
    listing = corpus.lister(root)
    if options.part and len(corpus.parts) > 1:
        listing = listing.of_parts(options.part)
        if not (listing.manifest.items or listing.dropped):
            raise SourceError(f"{root}: has nothing of {', '.join(options.part)}; --download fetches it")
    return Source(listing.manifest, listing.dropped)


def _check_single(name: str) -> None:
    """Refuse a single word that may mean a corpus."""
    if name in NAMES:
        folder = f"; for the folder of that name: prepare ./{name}" if Path(name).exists() else ""
        raise UsageError(f"{name} is a corpus; say where it is or should go: prepare {name} ROOT{folder}")
    near = _nearest(name, CORPORA)
    if near != "." and not Path(name).exists():
        raise UsageError(f"{name}: there is no such folder or manifest{near} A corpus takes its folder too: NAME ROOT")


def _check_parts(name: str, corpus: Corpus, parts: Sequence[str]) -> None:
    for part in parts:
        if not corpus.parts:
            raise UsageError(f"{name} has no parts to choose from; leave out --part")
        if part not in corpus.parts:
            near = _nearest(part, corpus.parts)
            raise UsageError(f"--part {part} is not in {name}{near} It has: {_any_of(corpus.parts)}")


def _download(name: str, corpus: Corpus, root: Path, parts: Sequence[str]) -> None:
    if not corpus.archives:
        raise UsageError(
            f"{corpus.title} is given out to people who agree to its terms, so it cannot be downloaded here: get it "
            f"from {corpus.page}, unpack it, and say where: prepare {name} ROOT"
        )
    wanted = [archive for archive in corpus.archives if archive.part in parts]
    with progress_bar(1, "GB") as bar:
        fetched = download(
            wanted,
            root,
            name=name,
            page=corpus.page,
            progress=lambda done, total, text: show(bar, done / 1e9, total / 1e9, text),
        )
    for archive, each in zip(wanted, fetched, strict=True):
        come = "fetched" if each.fetched else "there already"
        if each.sha256 is None:
            say(f"{each.part}: {come}, by other means: not compared with anything")
        else:
            unknown = "" if archive.sha256 else " (nobody has published one to compare it with)"
            say(f"{each.part}: {come}, SHA-256 {each.sha256}{unknown}")


def _nearest(word: str, names: Iterable[str]) -> str:
    """The end of a sentence: a question for the nearest of `names`, or a full stop if none is near."""
    near = get_close_matches(word.lower().replace("_", "-"), list(names), n=1)
    return f"; did you mean {near[0]}?" if near else "."


def _any_of(names: Iterable[str]) -> str:
    return ", ".join(names)
