"""README and docs: their Python runs, their command lines parse, their links lead somewhere."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vqaudio
from tests.pages import ROOT, fenced, name, pages, without_fenced
from tests.small_evaluation import write_evaluation
from vqaudio.cli import main
from vqaudio.cli.arguments import _parser, _split_overrides
from vqaudio.code_stream import CodeStreamWriter
from vqaudio.layouts import Flat, TokenSpace
from vqaudio.lm import CodeFolder, ItemDataset, export_binary

ELSEWHERE = {"docs/sequence_models.md"}  # pages whose Python is run by tests of their own
SHORTER = {"README.md": {"3600": "1", "3610": "3"}}  # an hour is a second here
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`(?:python )?((?:benchmarks|docs|recipes|samples|tests|vqaudio)/[\w./-]+)(?: [^`]*)?`")
NOT_THERE_YET = ("benchmarks/quality/",)  # made by vqaudio evaluate
MADE_BY_A_RUN = ("recipes/any_folder/curve.csv",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: recordings, a model, codes, tokens, packs, a run, an evaluation."""
    place = tmp_path_factory.mktemp("docs")
    speech = ROOT / "samples/english-2.flac"
    for file in ("speech.flac", "hours.flac"):
        shutil.copy(speech, place / file)
    for number in range(3):
        (place / f"recordings/speaker {number}").mkdir(parents=True)
        audio, rate = vqaudio.read_audio(speech, start=16_000 * number, stop=16_000 * (number + 1))
        vqaudio.write_audio(place / f"recordings/speaker {number}/one.flac", audio, rate)
    assert main(["prepare", str(place / "recordings"), "--out", str(place / "packs")]) == 0
    tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k")
    codes = tokenizer.encode(speech)
    codes.save(place / "speech.vqt")
    with (place / "speech.codes").open("wb") as stream:
        writer = CodeStreamWriter(stream)
        writer.write(codes.slice(0, 2))
        writer.write(codes.slice(2, 4))
        writer.close()
    assert main(["encode", str(speech), "--layout", "flat", "--out", str(place / "tokens")]) == 0
    assert main(["encode", str(speech), "--codebooks", "1", "--out", str(place / "codes")]) == 0
    code_folder = CodeFolder(place / "codes")
    space = TokenSpace.of(code_folder, Flat(codebook_sizes=code_folder.codebook_sizes))
    export_binary({"train": ItemDataset(code_folder, space)}, place / "binary")
    shutil.copytree(ROOT / "vqaudio/pretrained/speech-16k-v1", place / "model")
    (place / "run").mkdir()
    shutil.copy(place / "model/log.jsonl", place / "run")
    (place / "recipes").symlink_to(ROOT / "recipes")
    write_evaluation(place / "evaluation")
    return place


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    yield folder


PYTHON = [page for page in pages("README.md", "docs/*.md") if fenced(page, "python") and name(page) not in ELSEWHERE]


@pytest.mark.parametrize("page", PYTHON, ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, here: Path) -> None:
    names: dict[str, object] = {
        "__name__": "page",
        "path": "speech.flac",
        "paths": ["speech.flac", "hours.flac"],
        "chunk": torch.zeros(1, 48_000),
        "tokenizer": vqaudio.AudioTokenizer.from_pretrained("speech-16k"),
    }
    for block in fenced(page, "python"):
        text = block.text
        for long, short in SHORTER.get(name(page), {}).items():
            text = text.replace(long, short)
        exec(compile("\n" * (block.line - 1) + text, str(page), "exec"), names)  # an error names the page's line


def command_lines(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Every call of vqaudio in the shell blocks of a page, with its line."""
    for block in (*fenced(page, "sh"), *fenced(page, "bash"), *fenced(page, "")):
        line = block.line
        for text in block.text.replace("\\\n", "\\\\\n").replace("\\\\\n", " \0").split("\n"):
            if re.match(r"(\w+=\S+ )*(vqaudio|torchrun|arecord) ", text) or "| vqaudio " in text:
                lexer = shlex.shlex(text.replace("\0", ""), posix=True, punctuation_chars=True)
                lexer.whitespace_split, call = True, list[str]()
                for word in [*lexer, ";"]:
                    if set(word) <= set("|&;"):
                        if "vqaudio.cli" in call:
                            call = ["vqaudio", *call[call.index("vqaudio.cli") + 1 :]]
                        if call and call[0] == "vqaudio":
                            yield line, call[1:]
                        call = []
                    else:
                        call.append(word)
            line += 1 + text.count("\0")


COMMANDS = [page for page in pages() if any(command_lines(page))]


@pytest.mark.parametrize("page", COMMANDS, ids=name)
def test_the_command_lines_of_a_page_are_understood(page: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, call in command_lines(page):
        words, overrides = _split_overrides(call)
        try:
            options = _parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{name(page)}, line {line}: {shlex.join(call)}: {capsys.readouterr().err}")
        assert not overrides or options.run.__name__ == "train"


def test_command_lines_are_found_where_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\narecord | vqaudio encode --stream | vqaudio decode --stream  # live\nvqaudio score a b \\\n  --out c/\n"
        "OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m vqaudio.cli train r --codec m='a {in} {out}'\n```\n"
    )
    assert list(command_lines(page)) == [
        (2, ["encode", "--stream"]),
        (2, ["decode", "--stream"]),
        (3, ["score", "a", "b", "--out", "c/"]),
        (5, ["train", "r", "--codec", "m=a {in} {out}"]),
    ]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", without_fenced(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_to_pages_files_and_headings(page: Path) -> None:
    for match in LINK.finditer(without_fenced(page.read_text(encoding="utf-8"))):
        target = match[1] or match[2]
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{name(page)}: {target} is not there"
        assert not anchor or anchor in anchors(place), f"{name(page)}: {target} has no such heading"


@pytest.mark.parametrize("page", pages(), ids=name)
def test_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    for path in PATH.findall(page.read_text(encoding="utf-8")):
        if re.search(r"[A-Z]{3}", path.replace("README", "")) or path in MADE_BY_A_RUN or "curve.csv" in path:
            continue  # a name to be filled in, or what a command makes
        assert (ROOT / path).exists() or path.startswith(NOT_THERE_YET), f"{name(page)}: {path} is not there"


def test_every_page_can_be_found_from_the_first() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in pages("docs/*.md", "benchmarks/*.md", "recipes/*/README.md", "vqaudio/pretrained/*/card.md"):
        assert f"]({name(page)}" in first, f"{name(page)} is not linked from README.md"
