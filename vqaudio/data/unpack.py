"""Unpacking the archive of a corpus: to its end, and nowhere but into its folder."""

import bz2
import gzip
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from vqaudio.data.manifest import Progress

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError)
_COPY_BYTES = 2**20


class UnpackError(ValueError):
    """An archive that is damaged, cut short, or wants to write outside the folder it is unpacked into."""


def unpack(archive: Path, folder: Path, *, progress: Progress | None = None) -> int:
    """Unpack a .tar.gz, .tar.bz2 or .zip into `folder`, over what is there; the number of files.

    Everything is read to its end, so that all checksums of the format are compared. UnpackError names the archive.
    `progress` is told the bytes of the archive that are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if archive.name.endswith((".tar.gz", ".tar.bz2")):
            return _unpack_tar(archive, folder, progress)
        if archive.name.endswith(".zip"):
            return _unpack_zip(archive, folder, progress)
    except tarfile.FilterError as error:
        raise UnpackError(f"{archive}: refused, it wants to write outside its folder ({error})") from error
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; those of bz2 have no number
            raise
        problem = str(error) or type(error).__name__
        raise UnpackError(f"{archive}: damaged or cut short ({problem}); remove it and fetch it again") from error
    raise UnpackError(f"{archive}: its name ends in none of .tar.gz, .tar.bz2, .zip")


def _unpack_tar(archive: Path, folder: Path, progress: Progress | None) -> int:
    if not hasattr(tarfile, "data_filter"):
        raise UnpackError(f"{archive}: this Python cannot unpack tar files safely; 3.11.4 or later can")
    size, count = archive.stat().st_size, 0
    opened = gzip.open if archive.name.endswith(".gz") else bz2.open
    # As a pipe ("r|"): a seekable tarfile steps one byte back now and then, and a compressed file starts over for that.
    with archive.open("rb") as raw, opened(raw) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        for member in tar:
            tar.extract(member, folder, filter="data")
            count += member.isfile()
            if progress is not None:
                progress(raw.tell(), size, f"unpacking {archive.name}")
        while file.read(_COPY_BYTES):  # the checksum comes last
            pass
    return count


def _unpack_zip(archive: Path, folder: Path, progress: Progress | None) -> int:
    count, done = 0, 0
    with zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        size = archive.stat().st_size
        for member in members:
            # `ZipFile.extract` would write such a member to another place, and say nothing.
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0]:
                raise UnpackError(f"{archive}: refused, it wants to write outside its folder ({member.filename!r})")
        for member in members:
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _COPY_BYTES)
            count, done = count + 1, done + member.compress_size
            if progress is not None:
                progress(done, size, f"unpacking {archive.name}")
    return count
