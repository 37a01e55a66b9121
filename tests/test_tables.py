"""docs/tables.py: the tables in the pages are those of the result files. And recipes/ship.py, whose cards have them."""

import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.pages import ROOT, name, pages, script, tables, without_fenced
from tests.small_evaluation import MODELS, write_evaluation
from vqaudio.checkpoint import load_codec, save_codec

tables_script = script("docs", "tables")
ship = script("recipes", "ship")
QUALITY, OF_ALL = "benchmarks/quality/speech", "benchmarks/quality/models"
NEWEST = "speech-16k-v4"
NAMES = ("speech-16k-v1", "model 1", "model 2")  # models are found by their fingerprints, whatever they are called
# Tables with numbers that nobody measured, by page and first cell of their heads.
OF_FACTS = {("samples/README.md", "file")}
FIGURE = re.compile(r"[-+]?\d[\d,]*(\.\d+)?( %| ×| s)?( ?[/\[].*)?")


def waiting(problem: str) -> bool:
    """Scores that are not there yet: of the evaluation, and of the models that keep their own."""
    return not (ROOT / QUALITY / "evaluation.json").is_file() and (
        "holds no evaluation.json" in problem or "keeps no scores of vqaudio evaluate" in problem
    )


def check(root: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    status = tables_script.main(["--check"], root=root)
    problems = capsys.readouterr().err.splitlines()
    assert status == bool(problems)
    return problems


def test_every_table_in_the_pages_is_that_of_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert [problem for problem in check(ROOT, capsys) if not waiting(problem)] == []


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_table_with_measured_figures_is_in_a_block(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = without_fenced(text).split("\n")
    inside = {line for block in tables_script.blocks(text.split("\n")) for line in range(block.first, block.last)}
    for first, rows in tables(text):
        head = lines[first].strip("| ").split(" | ")[0]
        if is_measured(rows) and (name(page), head) not in OF_FACTS:
            assert first in inside, f"{name(page)}, line {first + 1}: a table of figures without a block"


def is_measured(rows: list[str]) -> bool:
    """Whether a column after the first is mostly figures."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    return any(
        sum(bool(FIGURE.fullmatch(cell)) for cell in column) > len(cells) / 2
        for column in list(zip(*cells, strict=False))[1:]
    )


# ---- a copy of the repository with an evaluation in it


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages and result files, without weights, the rows of evaluations unpacked, and every table made anew."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("docs", "benchmarks", "recipes", "samples", "vqaudio/pretrained"):
        ignored = shutil.ignore_patterns("*.safetensors", "*.flac", "*.mp3", "*.opus", "*.ogg", "*.png")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, root)
    for packed in root.rglob("files.jsonl.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    assert tables_script.main([], root=root) == 0
    return root


def test_what_the_script_wrote_it_finds_right(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(copy, capsys) == []
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert "Split `test`: 211 recordings of 48 speakers, 22.1 minutes, scored at 16,000 Hz." in readme
    assert re.search(r"\| 8 codebooks \| \+0\.\d+ \[\+0\.\d+, \+0\.\d+\] better \|", readme)
    benchmarks = (copy / "benchmarks/README.md").read_text(encoding="utf-8")
    assert re.search(r"\n\| Opus, 12 kbit/s \| 11\.2 \| 3\.\d\d \[", benchmarks)


SPEED = "benchmarks/speed.json"
LOG = "vqaudio/pretrained/speech-16k-v1/log.jsonl"
TRAINING = "benchmarks/training.json"
ROWS = f"{OF_ALL}/files.jsonl"
CHANGES = {
    "a mean": (f"{QUALITY}/evaluation.json", '"mean": 1.', '"mean": 7.', "README.md", f"systems {QUALITY}"),
    "a file's value": (ROWS, '"pesq_wb": 1.', '"pesq_wb": 2.', "README.md", f"comparison {OF_ALL}"),
    "a card": ("vqaudio/pretrained/speech-16k-v2/config.json", '"mean": 1.', '"mean": 7.', "card.md", "scores ."),
    "a rate": (SPEED, '"encode_times_real_time": ', '"encode_times_real_time": 9', "README.md", "rates"),
    "blocks": ("benchmarks/blocks.json", '"encode_ms": ', '"encode_ms": 9', "benchmarks/README.md", "blocks "),
    "layouts": ("benchmarks/layouts.json", "_per_second\": ", "_per_second\": 9", "benchmarks/README.md", "layouts "),
    "flips": ("benchmarks/flips.json", '"differing": ', '"differing": 7', "docs/engine.md", "flips "),
    "steps": (TRAINING, '"step_seconds": ', '"step_seconds": 9', "benchmarks/README.md", "training "),
    "a curve": ("recipes/speech_16k/curve.csv", "2000,", "2001,", "recipes/speech_16k/README.md", "curve "),
    "a log": (LOG, '"mel": 0.3', '"mel": 0.4', "docs/training_log.md", "course"),
}  # fmt: skip


@pytest.mark.parametrize("file, old, new, page, words", CHANGES.values(), ids=CHANGES)
def test_a_figure_that_changes_is_missed_where_it_stands(
    copy: Path, file: str, old: str, new: str, page: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copy / file).read_text(encoding="utf-8")
    assert old in before
    try:
        (copy / file).write_text(before.replace(old, new), encoding="utf-8")
        problems = check(copy, capsys)
    finally:
        (copy / file).write_text(before, encoding="utf-8")
    assert any(re.match(rf"\S*{page}, line \d+: table {words}.*: differs from its files", p) for p in problems), (
        problems
    )


def test_a_table_edited_by_hand_is_put_right(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = copy / "docs/engine.md"
    before = page.read_text(encoding="utf-8")
    page.write_text(before.replace("| blocks of 2 |", "| blocks of two |"), encoding="utf-8")
    (problem,) = check(copy, capsys)
    assert problem.startswith("docs/engine.md, line ")
    assert tables_script.main([], root=copy) == 0
    assert page.read_text(encoding="utf-8") == before


def filled(text: str) -> tuple[str, list[str]]:
    problems: list[str] = []
    return tables_script.filled(text, ROOT, problems.append), problems


def test_blocks_that_cannot_be_made_keep_what_they_have_and_say_why() -> None:
    for words, reason in {
        "nothing": "there is no 'nothing' in docs/figures.py; it has rates, ",
        "curve recipes/none/curve.csv": "cannot be read (No such file or directory)",
        "curve": "missing 1 required positional argument: 'file'",
        "scores docs/none": "docs/none: holds no evaluation.json",
        "course vqaudio/pretrained/speech-16k-v1/log.jsonl 7": "there is no 7",
    }.items():
        text = f"before\n<!-- table: {words} -->\nkept\n<!-- /table -->\nafter"
        new, (problem,) = filled(text)
        assert new == text
        assert problem.startswith(f"line 2: table {words}: cannot be made: ")
        assert reason in problem


@pytest.mark.parametrize(
    "text, reason",
    [
        ("<!-- table: archives -->\n", "line 1: the table never ends"),
        ("\n<!-- /table -->\n", "line 2: <!-- /table --> ends no table"),
        ("<!-- table: a -->\n<!-- table: b -->\n", "line 2: a table begins inside the one of line 1"),
    ],
)
def test_a_marker_without_its_other_half_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        filled(text)


def test_markers_in_fenced_code_are_text() -> None:
    text = "```\n<!-- table: nothing -->\n```\n"
    assert filled(text) == (text, [])


# ---- shipping


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    write_evaluation(tmp_path / "evaluation", names=NAMES)
    return tmp_path / "evaluation"


def digests(folder: Path, *left_out: str) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name not in left_out
    }


def test_a_shipped_model_is_rescored_without_touching_its_weights(tmp_path: Path, evaluation: Path) -> None:
    original, model = ROOT / "vqaudio/pretrained/speech-16k-live-v1", tmp_path / "speech-16k-live-v1"
    shutil.copytree(original, model)
    ship.main(["--rescore", str(model), "--evaluation", str(evaluation)])
    assert digests(model, "config.json", "card.md") == digests(original, "config.json", "card.md")
    _, before = load_codec(original)
    _, after = load_codec(model)
    assert (after.model_fingerprint, after.token_fingerprint) == (before.model_fingerprint, before.token_fingerprint)
    scores = after.about.pop("scores")
    before.about.pop("scores")
    assert after.about == before.about
    assert scores["system"]["points"][1]["values"]["pesq_wb"]["mean"] == pytest.approx(1.877)
    assert "counts" not in scores["system"]["codebooks"][0]
    card = (model / "card.md").read_text(encoding="utf-8")
    assert "\n| 8 | 4 | 3.6 | 1.88 [" in card
    assert "\n| 8 | 1000 / 1024 | 700 | 0.68 | 9.40 |\n" in card
    assert "Split `test`: 12 recordings of 4 speakers" in card
    written = (original / "card.md").read_text(encoding="utf-8").split("## Scores")[0]
    assert card.split("## Scores")[0] == written  # all else is as it was


def test_a_card_is_written_anew_from_its_recipe(tmp_path: Path, evaluation: Path) -> None:
    model = tmp_path / "speech-16k-v1"
    shutil.copytree(ROOT / "vqaudio/pretrained/speech-16k-v1", model)
    (model / "card.md").write_text("lost\n")
    words = ["--rescore", str(model), "--evaluation", str(evaluation), "--recipe", str(ROOT / "recipes/speech_16k")]
    ship.main(words)
    card = (model / "card.md").read_text(encoding="utf-8")
    shipped = (ROOT / "vqaudio/pretrained/speech-16k-v1/card.md").read_text(encoding="utf-8")
    assert card.split("## Scores")[0] == shipped.split("## Scores")[0]


def test_scores_of_another_model_are_refused_and_nothing_changes(tmp_path: Path, evaluation: Path) -> None:
    model = tmp_path / "speech-16k-v1"
    shutil.copytree(ROOT / "vqaudio/pretrained/speech-16k-v1", model)
    document = json.loads((evaluation / "evaluation.json").read_text())
    document["systems"] = document["systems"][1:]
    (evaluation / "evaluation.json").write_text(json.dumps(document))
    before = digests(model)
    with pytest.raises(
        SystemExit, match=r"holds no scores of the model \w{12}…; it has model 1, model 2, opus, codec2"
    ):
        ship.main(["--rescore", str(model), "--evaluation", str(evaluation)])
    assert digests(model) == before


def test_a_card_whose_tables_cannot_be_made_changes_nothing(tmp_path: Path, evaluation: Path) -> None:
    model = tmp_path / "speech-16k-v1"
    shutil.copytree(ROOT / "vqaudio/pretrained/speech-16k-v1", model)
    with (model / "card.md").open("a") as card:
        card.write("<!-- table: curve ./gone.csv -->\n<!-- /table -->\n")
    before = digests(model)
    with pytest.raises(SystemExit, match=r"card\.md: line \d+: table curve \./gone\.csv: cannot be made"):
        ship.main(["--rescore", str(model), "--evaluation", str(evaluation)])
    assert digests(model) == before


def test_a_finished_run_ships_with_card_curve_log_and_golden_codes(tmp_path: Path, evaluation: Path) -> None:
    shipped = ROOT / "vqaudio/pretrained/speech-16k-v1"
    run, out = tmp_path / "run", tmp_path / "speech-16k-v1"
    run.mkdir()
    shutil.copy(shipped / "log.jsonl", run)
    codec, before = load_codec(shipped)
    info = save_codec(codec, run / "model", name="x", about=before.about, card="as trained\n", storage="float16")
    results = evaluation / "evaluation.json"
    results.write_text(results.read_text().replace(before.model_fingerprint, info.model_fingerprint))
    ship.main([str(run), str(ROOT / "recipes/speech_16k"), str(out), "--evaluation", str(evaluation)])
    assert set(digests(out)) == set(digests(shipped))
    same = ("config.json", "card.md", "golden.json", "golden.vqt")
    assert digests(out, *same) == digests(shipped, *same)
    _, after = load_codec(out)
    assert (after.name, after.model_fingerprint) == ("x", info.model_fingerprint)
    assert "\n| 8 | 4 | 3.6 | 1." in (out / "card.md").read_text(encoding="utf-8")


def test_what_is_not_said_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ship.main(["--evaluation", "e", "run"])
    assert "RUN RECIPE OUT are wanted, or --rescore MODEL" in capsys.readouterr().err


def test_the_scores_in_shipped_models_are_those_of_the_evaluation() -> None:
    if not (ROOT / QUALITY / "evaluation.json").is_file():
        pytest.skip(f"{QUALITY} is not there yet")
    for model in (*MODELS, NEWEST):
        config = json.loads((ROOT / "vqaudio/pretrained" / model / "config.json").read_text(encoding="utf-8"))
        folder = QUALITY if model == NEWEST else OF_ALL  # the newest by every measure, all of them by a few
        assert config["about"]["scores"] == ship.scores_of(ROOT / folder, config["model_fingerprint"]), model


@pytest.mark.parametrize(
    "rows, measured",
    [
        (["| a | b |", "|---|---|", "| x | 1.10 [1.09, 1.10] |", "| y | not measured |", "| z | 5 |"], True),
        (["| a | b |", "|---|--:|", "| x | 12 / 8.8 |"], True),
        (["| a | b |", "|---|---|", "| x | 4 codebooks of 512 |", "| y | 16 kHz |"], False),
    ],
)
def test_what_is_taken_for_a_table_of_figures(rows: list[str], measured: bool) -> None:
    assert is_measured(rows) is measured
