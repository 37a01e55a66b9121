"""Fetching the archives of public corpora: resumed where they were cut, compared with their checksums, unpacked once.

    ROOT/downloads/NAME/train-clean-100.tar.gz.partial      what has come so far; a later call goes on at its end
                       /train-clean-100.tar.gz              whole, and equal to its checksums
                       /train-clean-100.tar.gz.json         what came, and whether it is unpacked
    ROOT/LibriSpeech/train-clean-100/…                      what was in it

A part that is unpacked is not fetched again, so the archives may be deleted (not the .json files). An archive that was
fetched by other means is taken, after the same checks, from where it would have been put.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from vqaudio.data.manifest import Progress, write_text
from vqaudio.data.unpack import unpack

_TRIES = 6  # in a row without a byte; waits of 1, 2, 4, 8, 16 s between them
_TIMEOUT_SECONDS = 60.0
_READ_BYTES = 2**20
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
# Most for LJSpeech and MUSDB18-HQ, 24 hours of 16 bits at 22.05 kHz in 2.75 GB and 50 at 88.2 kHz in 22.7: 1.4.
_UNPACKED_PER_BYTE = 1.5


class DownloadError(ValueError):
    """An archive that cannot be had: refused by the server, not what it should be, or too large for the disk."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    part: str  # what a user calls it
    url: str
    num_bytes: int | None  # None: not known
    sha256: str | None  # None: nobody has published one
    md5: str | None = None
    unpack_into: str = ""  # a folder below the root, for an archive without a folder of its own
    makes: str  # the folder that is there once it is unpacked, below the root

    @property
    def file(self) -> str:
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Fetched:
    """What became of one part. `sha256` is what its archive has, or None if a folder of other origin was there."""

    part: str
    fetched: bool  # False: it was there
    sha256: str | None


def download(
    archives: Sequence[Archive],
    root: str | Path,
    *,
    name: str,
    page: str,
    progress: Progress | None = None,
    first_wait_seconds: float = 1.0,
) -> tuple[Fetched, ...]:
    """Fetch, check and unpack `archives` of the corpus `name` into `root`; those that are there are left alone.

    DownloadError says what the server or the archive said, and where to get it by hand (`page`). Everything may be
    interrupted at any time: the same call goes on.
    """
    root = Path(root)
    folder = root / "downloads" / name
    folder.mkdir(parents=True, exist_ok=True)
    _check_space([archive for archive in archives if not _is_there(archive, root, folder)], folder)
    fetched = []
    for archive in archives:
        if _is_there(archive, root, folder):
            note = _read_note(folder / archive.file)
            fetched.append(Fetched(archive.part, False, note.sha256 if note else None))
            continue
        place = folder / archive.file
        fetched_now = not place.exists()
        if fetched_now:
            by_hand = f"get it by hand from {page}, put it at {place}, and run the same again"
            sha256 = _fetch(archive, place, by_hand=by_hand, progress=progress, first_wait_seconds=first_wait_seconds)
        else:
            sha256 = _known_sha256(place) or _check(archive, place, progress)
        _write_note(archive, place, sha256, unpacked=False)
        unpack(place, root / archive.unpack_into, progress=progress)
        if not (root / archive.makes).is_dir():
            raise DownloadError(f"{place}: unpacked, and there is no {root / archive.makes}; this is another archive")
        _write_note(archive, place, sha256, unpacked=True)
        fetched.append(Fetched(archive.part, fetched_now, sha256))
    return tuple(fetched)


def _is_there(archive: Archive, root: Path, folder: Path) -> bool:
    """Whether a part is unpacked: by us, or, if there is nothing of its archive, by somebody else."""
    if not (root / archive.makes).is_dir():
        return False
    place = folder / archive.file
    note = _read_note(place)
    return note.unpacked if note else not (place.exists() or _partial(place).exists())


def _fetch(archive: Archive, place: Path, *, by_hand: str, progress: Progress | None, first_wait_seconds: float) -> str:
    """Bring the bytes of `archive.url` to the partial file beside `place`, check and rename it; their SHA-256."""
    partial = _partial(place)
    tries = 0
    while True:
        have = partial.stat().st_size if partial.exists() else 0
        if have == archive.num_bytes:
            break
        try:
            if _receive(archive, partial, have, progress):
                break
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            problem = f"the server says {error.code} {error.reason}"
            if error.code not in _RETRIED_STATUS:
                raise DownloadError(f"{archive.url}: {problem}; {by_hand}") from error
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", error) or type(error).__name__)
        tries = 1 if partial.exists() and partial.stat().st_size > have else tries + 1
        if tries >= _TRIES:
            raise DownloadError(
                f"{archive.url}: {problem}, {tries} times in a row; what has come is kept in {partial}, and the same "
                f"call goes on there; or {by_hand}"
            )
        time.sleep(first_wait_seconds * 2 ** (tries - 1))
    try:
        sha256 = _check(archive, partial, progress)
    except DownloadError:
        partial.unlink()  # going on at its end would not mend it
        raise
    os.replace(partial, place)
    _write_note(archive, place, sha256, unpacked=False)
    return sha256


def _receive(archive: Archive, partial: Path, have: int, progress: Progress | None) -> bool:
    """One connection: append what comes to `partial`, which has `have` bytes. Whether all of it is there now."""
    request = urllib.request.Request(archive.url, headers={"User-Agent": "vqaudio", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range begins at or past the end
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total is None or int(total[1]) != have:
            partial.unlink()  # longer than the file: of another one
            return False
        return True
    with response:
        begin, total_bytes = _extent(response, have)
        if begin != have:  # a server that ignores ranges sends everything
            have = 0
        if archive.num_bytes is not None and total_bytes not in (None, archive.num_bytes):
            raise DownloadError(
                f"{archive.url}: has {total_bytes} bytes, and {archive.part} should have {archive.num_bytes}; "
                "another file is published there now"
            )
        wanted = archive.num_bytes if total_bytes is None else total_bytes
        with partial.open("ab" if have else "wb") as file:
            while data := response.read(_READ_BYTES):
                file.write(data)
                have += len(data)
                if wanted is not None and have > wanted:
                    raise DownloadError(f"{archive.url}: sends more than the {wanted} bytes that {archive.part} has")
                if progress is not None:
                    progress(have, wanted or have, f"fetching {archive.file}")
    return wanted is None or have == wanted  # an early end looks like the end


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """(the first byte that an answer holds, the length of the whole file if it says so)."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is not None and int(match[1]) == have:
            return have, None if match[2] == "*" else int(match[2])
        raise http.client.HTTPException(f"it sent another range than the one from byte {have} on")
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _check(archive: Archive, file: Path, progress: Progress | None) -> str:
    """The SHA-256 of a file; DownloadError if its length or a checksum is not that of the archive."""
    size = file.stat().st_size
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    done = 0
    with file.open("rb") as stream:
        while data := stream.read(_READ_BYTES):
            sha256.update(data)
            md5.update(data)
            done += len(data)
            if progress is not None:
                progress(done, size, f"checking {archive.file}")
    for what, found, wanted in (
        ("bytes", size, archive.num_bytes),
        ("SHA-256", sha256.hexdigest(), archive.sha256),
        ("MD5", md5.hexdigest(), archive.md5),
    ):
        if wanted is not None and found != wanted:
            raise DownloadError(
                f"{file}: {what} {found}, and {archive.part} has {wanted}. Either it was damaged on the way or another "
                f"file is published at {archive.url} now; remove it if it is still there, and run the same again"
            )
    return sha256.hexdigest()


def _check_space(archives: Sequence[Archive], folder: Path) -> None:
    wanted = 0.0
    for archive in archives:
        place = folder / archive.file
        there = next((path.stat().st_size for path in (place, _partial(place)) if path.exists()), 0)
        num_bytes = archive.num_bytes or 0
        wanted += max(0, num_bytes - there) + _UNPACKED_PER_BYTE * num_bytes
    free = shutil.disk_usage(folder).free
    if wanted > free:
        parts = ", ".join(archive.part for archive in archives)
        raise DownloadError(
            f"{folder}: {free / 1e9:.1f} GB are free there, and about {wanted / 1e9:.1f} GB are needed to fetch and "
            f"unpack {parts}; choose fewer parts or another disk"
        )


def _partial(place: Path) -> Path:
    return place.with_name(f"{place.name}.partial")


@dataclass(frozen=True)
class _Note:
    """What is kept of an archive that was checked."""

    url: str
    sha256: str
    num_bytes: int
    unpacked: bool


def _read_note(place: Path) -> _Note | None:
    try:
        return _Note(**json.loads(place.with_name(f"{place.name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none there, or none of ours
        return None


def _known_sha256(place: Path) -> str | None:
    """That of an archive that was checked before, by its length."""
    note = _read_note(place)
    return note.sha256 if note is not None and note.num_bytes == place.stat().st_size else None


def _write_note(archive: Archive, place: Path, sha256: str, *, unpacked: bool) -> None:
    note = _Note(archive.url, sha256, place.stat().st_size, unpacked)
    write_text(place.with_name(f"{place.name}.json"), json.dumps(asdict(note), indent=1) + "\n")
