"""Fetching archives from a server that cuts, ignores ranges, lies or refuses; unpacking them, and refusing to."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from vqaudio.cli import corpora, main
from vqaudio.data import download as download_module
from vqaudio.data.download import Archive, DownloadError, Fetched, download
from vqaudio.data.sources import CORPORA
from vqaudio.data.unpack import UnpackError, unpack

NOISE = np.random.default_rng(0).bytes(300_000)  # so that archives do not shrink to nothing
PAGE = "https://example.org/corpus"


@dataclass
class Server:
    """What is served, how it misbehaves, and what was asked of it."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # answer a Range with a part
    cuts: list[int] = field(default_factory=list)  # for each of the next answers: bytes after which it breaks off
    statuses: list[int] = field(default_factory=list)  # for each of the next answers: an error instead
    says_length: bool = True
    asked: list[str] = field(default_factory=list)  # "name range"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name, wanted = handler.path.strip("/"), handler.headers.get("Range", "")
        self.asked.append(f"{name} {wanted}".strip())
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        content = self.files[name]
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if wanted and self.ranges and begin >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(206 if wanted and self.ranges else 200)
        if wanted and self.ranges:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        end = begin + self.cuts.pop(0) if self.cuts else len(content)
        handler.wfile.write(content[begin:end])


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


def tar_gz(files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


FILES = {"Corpus/part/1.flac": NOISE, "Corpus/part/2.txt": b"text", "Corpus/part/empty": b""}


@pytest.fixture
def archive(server: Server) -> Archive:
    """One that is served as `part.tar.gz`, with all checksums."""
    content = tar_gz(FILES)
    server.files["part.tar.gz"] = content
    return Archive(
        part="part",
        url=f"{server.url}/part.tar.gz",
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
        makes="Corpus/part",
    )


def fetch(archive: Archive, root: Path, **options: Any) -> Fetched:
    (fetched,) = download([archive], root, name="corpus", page=PAGE, first_wait_seconds=0.001, **options)
    return fetched


def place(root: Path) -> Path:
    return root / "downloads" / "corpus" / "part.tar.gz"


def partial(root: Path) -> Path:
    return place(root).with_name("part.tar.gz.partial")


def unpacked(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "Corpus").rglob("*") if path.is_file()
    }


def test_an_archive_is_fetched_checked_and_unpacked_once(server: Server, archive: Archive, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    fetched = fetch(archive, tmp_path, progress=lambda *what: told.append(what))
    assert fetched == Fetched("part", True, archive.sha256)
    assert unpacked(tmp_path) == FILES
    assert not partial(tmp_path).exists()
    assert {text for _, _, text in told} == {f"{doing} part.tar.gz" for doing in ("fetching", "checking", "unpacking")}
    assert all(0 <= done <= total for done, total, _ in told)
    note = json.loads(place(tmp_path).with_name("part.tar.gz.json").read_text())
    assert (note["sha256"], note["num_bytes"], note["unpacked"]) == (archive.sha256, archive.num_bytes, True)
    place(tmp_path).unlink()  # the archive may go
    assert fetch(archive, tmp_path) == Fetched("part", False, archive.sha256)
    assert server.asked == ["part.tar.gz"]


def test_a_cut_connection_goes_on_where_it_was_cut(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    fetch(archive, tmp_path)
    assert server.asked == ["part.tar.gz", "part.tar.gz bytes=100000-", "part.tar.gz bytes=150000-"]
    assert unpacked(tmp_path) == FILES


def test_a_call_goes_on_where_another_was_ended(server: Server, archive: Archive, tmp_path: Path) -> None:
    def end(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    server.cuts = [70_000]
    with pytest.raises(KeyboardInterrupt):
        fetch(archive, tmp_path, progress=end)
    assert partial(tmp_path).stat().st_size == 70_000
    server.cuts = []
    fetch(archive, tmp_path)
    assert server.asked == ["part.tar.gz", "part.tar.gz bytes=70000-"]
    assert unpacked(tmp_path) == FILES


def test_a_server_without_ranges_sends_everything_again(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [100_000]
    fetch(archive, tmp_path)
    assert server.asked == ["part.tar.gz", "part.tar.gz bytes=100000-"]
    assert unpacked(tmp_path) == FILES


def test_all_that_was_missing_is_the_end(server: Server, archive: Archive, tmp_path: Path) -> None:
    """A call that was ended between the last byte and the check."""
    partial(tmp_path).parent.mkdir(parents=True)
    partial(tmp_path).write_bytes(server.files["part.tar.gz"])
    fetch(archive, tmp_path)
    assert server.asked == []
    other = tmp_path / "other"
    partial(other).parent.mkdir(parents=True)
    partial(other).write_bytes(server.files["part.tar.gz"])
    fetch(replace(archive, num_bytes=None), other)  # then the server has to say so
    assert server.asked == [f"part.tar.gz bytes={archive.num_bytes}-"]
    assert unpacked(other) == FILES


def test_a_partial_file_longer_than_the_archive_is_begun_again(
    server: Server, archive: Archive, tmp_path: Path
) -> None:
    partial(tmp_path).parent.mkdir(parents=True)
    partial(tmp_path).write_bytes(bytes(400_000))
    fetch(archive, tmp_path)
    assert server.asked == ["part.tar.gz bytes=400000-", "part.tar.gz"]
    assert unpacked(tmp_path) == FILES


def test_a_length_that_is_not_told_is_known_from_the_archive(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.says_length, server.cuts = False, [100_000]
    fetch(archive, tmp_path)
    assert len(server.asked) == 2
    assert unpacked(tmp_path) == FILES
    with pytest.raises(DownloadError, match="sends more than the 1000 bytes that part has"):
        fetch(replace(archive, num_bytes=1000), tmp_path / "other")


def test_errors_that_pass_are_tried_again_and_those_that_stay_are_told(
    server: Server, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download_module.time, "sleep", waits.append)
    server.statuses = [503, 500]
    fetch(archive, tmp_path)
    assert waits == [0.001, 0.002]
    server.statuses = [503] * 20
    server.asked.clear()
    with pytest.raises(DownloadError, match=r"503 Service Unavailable, 6 times in a row; .* or get it by hand from"):
        fetch(archive, tmp_path / "other")
    assert len(server.asked) == 6
    server.statuses, server.cuts = [], [1000] * 9  # slow, but every connection brings something
    fetch(archive, tmp_path / "third")
    assert unpacked(tmp_path / "third") == FILES


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_says_how_to_get_it_by_hand(server: Server, archive: Archive, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadError, match=rf"says {status} .*; get it by hand from {PAGE}, put it at .*part.tar.gz"):
        fetch(archive, tmp_path)
    assert len(server.asked) == 1
    place(tmp_path).write_bytes(server.files["part.tar.gz"])
    assert fetch(archive, tmp_path) == Fetched("part", False, archive.sha256)
    assert unpacked(tmp_path) == FILES


def test_nobody_there_is_an_error_of_the_download(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"refused, 6 times in a row"):
        fetch(replace(archive, url="http://127.0.0.1:9/part.tar.gz"), tmp_path)


@pytest.mark.parametrize("checksum", ["sha256", "md5"])
def test_a_wrong_checksum_is_refused_and_nothing_of_it_stays(
    server: Server, archive: Archive, tmp_path: Path, checksum: str
) -> None:
    damaged = bytearray(server.files["part.tar.gz"])
    damaged[1000] ^= 1
    server.files["part.tar.gz"] = bytes(damaged)
    wanted = replace(archive, **{"sha256": None, "md5": None, checksum: getattr(archive, checksum)})
    for _ in range(2):
        with pytest.raises(DownloadError, match=rf"and part has {getattr(archive, checksum)}\. Either it was damaged"):
            fetch(wanted, tmp_path)
        assert not place(tmp_path).exists() and not partial(tmp_path).exists()
    assert server.asked == ["part.tar.gz"] * 2
    assert not (tmp_path / "Corpus").exists()
    place(tmp_path).write_bytes(damaged)  # brought by hand: refused, and left to its owner
    with pytest.raises(DownloadError, match="remove it if it is still there"):
        fetch(wanted, tmp_path)
    assert place(tmp_path).read_bytes() == damaged


def test_another_length_is_noticed_before_anything_is_fetched(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.files["part.tar.gz"] += b"more"
    with pytest.raises(DownloadError, match=r"bytes, and part should have .*another file is published there now"):
        fetch(archive, tmp_path)
    assert not partial(tmp_path).exists()


def test_without_a_published_checksum_the_archive_itself_must_be_sound(
    server: Server, archive: Archive, tmp_path: Path
) -> None:
    whole = server.files["part.tar.gz"]
    unknown = replace(archive, num_bytes=None, sha256=None, md5=None)
    assert fetch(unknown, tmp_path / "whole").sha256 == archive.sha256
    for size in (len(whole) - 1, len(whole) - 8, len(whole) // 2, 1):
        server.files["part.tar.gz"] = whole[:size]
        with pytest.raises(UnpackError, match=r"part\.tar\.gz: damaged or cut short"):
            fetch(unknown, tmp_path / str(size))
    wrong_crc = bytearray(whole)
    wrong_crc[-5] ^= 1
    server.files["part.tar.gz"] = bytes(wrong_crc)
    with pytest.raises(UnpackError, match="damaged or cut short"):
        fetch(unknown, tmp_path / "crc")


def test_unpacking_that_was_cut_off_is_done_again(server: Server, archive: Archive, tmp_path: Path) -> None:
    def end(done: int, total: int, text: str) -> None:
        if text.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(archive, tmp_path, progress=end)
    assert unpacked(tmp_path) != FILES
    fetch(archive, tmp_path)
    assert unpacked(tmp_path) == FILES
    assert len(server.asked) == 1


def test_a_folder_of_other_origin_is_left_alone(server: Server, archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "Corpus" / "part").mkdir(parents=True)
    assert fetch(archive, tmp_path) == Fetched("part", False, None)
    assert server.asked == []


def test_an_archive_of_something_else_is_told(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="this is another archive"):
        fetch(replace(archive, makes="Corpus/other"), tmp_path)


def test_too_little_space_is_told_before_anything_is_fetched(server: Server, archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"GB are free there, and about 2500000\.0 GB are needed to fetch and"):
        fetch(replace(archive, num_bytes=10**15), tmp_path)
    assert server.asked == []


# ---- unpacking


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "zip"])
def test_archives_of_every_kind_are_unpacked(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"archive.{kind}"
    if kind == "zip":
        path.write_bytes(zipped(FILES))
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as tar:
            for name, content in FILES.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    for _ in range(2):  # over what is there, too
        assert unpack(path, tmp_path / "out") == len(FILES)
        assert unpacked(tmp_path / "out") == FILES
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(UnpackError, match="damaged or cut short"):
        unpack(path, tmp_path / "again")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/vqaudio-evil", "..\\evil", "C:/evil"])
def test_members_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_gz({"good": b"", name: b"evil"}))
    (tmp_path / "a.zip").write_bytes(zipped({"good": b"", name: b"evil"}))
    if ".." in name and "\\" not in name:  # of an absolute name tarfile takes the root away: it lands in the folder
        with pytest.raises(UnpackError, match="wants to write outside its folder"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "deep" / "out")
    with pytest.raises(UnpackError, match="wants to write outside its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "deep" / "out")
    assert not Path("/tmp/vqaudio-evil").exists()
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.tar.gz", "a.zip", "deep", "out", "good"}


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    def link(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = tarfile.SYMTYPE, str(tmp_path), 0

    (tmp_path / "a.tar.gz").write_bytes(tar_gz({"link": b""}, link))
    with pytest.raises(UnpackError, match="wants to write outside its folder"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out" / "link").exists()


def test_other_names_and_other_content_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(UnpackError, match=r"ends in none of \.tar\.gz"):
        unpack(tmp_path / "a.rar", tmp_path)
    for name in ("a.tar.gz", "a.tar.bz2", "a.zip"):
        for content in (b"", b"<html>not an archive</html>" * 99, gzip.compress(b"not a tar" * 999)):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UnpackError, match=f"{name}: damaged or cut short"):
                unpack(tmp_path / name, tmp_path / "out")


# ---- the command line


def ljspeech(folder: Path) -> dict[str, bytes]:
    """The files of a corpus of three recordings."""
    files = {"LJSpeech-1.1/metadata.csv": b"".join(b"LJ%03d-0001|Text.|Text.\n" % each for each in (1, 49, 50))}
    for number in (1, 49, 50):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, 6000)
        soundfile.write(folder / "noise.wav", noise, 8000)
        files[f"LJSpeech-1.1/wavs/LJ{number:03d}-0001.wav"] = (folder / "noise.wav").read_bytes()
    return files


def test_prepare_downloads_a_corpus_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tar_gz(ljspeech(tmp_path))
    server.files["LJSpeech-1.1.tar.gz"] = content
    archive = replace(
        CORPORA["ljspeech"].archives[0],
        url=f"{server.url}/LJSpeech-1.1.tar.gz",
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setitem(corpora.CORPORA, "ljspeech", replace(CORPORA["ljspeech"], archives=(archive,)))
    words = ["prepare", "ljspeech", str(tmp_path / "data"), "--sample-rate", "4000", "--out", str(tmp_path / "packs")]
    assert main(words) == 1
    assert "there is no such folder" in capsys.readouterr().err
    assert main([*words, "--download"]) == 0
    said = capsys.readouterr().out
    assert "LJSpeech 1.1, licence: public domain" in said
    assert f"LJSpeech-1.1: fetched, SHA-256 {archive.sha256}\n" in said
    assert all(f"{split}: 1 recordings" in said for split in ("train", "valid", "test"))
    assert main([*words, "--download", "--part", "LJSpeech-1.1"]) == 0
    assert "LJSpeech-1.1: there already" in capsys.readouterr().out
    assert server.asked == ["LJSpeech-1.1.tar.gz"]
    server.statuses = [404]
    words[2] = str(tmp_path / "other")
    assert main([*words, "--download"]) == 1
    assert "get it by hand from https://keithito.com/LJ-Speech-Dataset" in capsys.readouterr().err
