"""The page of a run: what is on it, that it needs nothing from elsewhere, and that it stays small and readable."""

import base64
import html
import json
import math
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from vqaudio import pretrained
from vqaudio.cli import main
from vqaudio.training.charts import Axis, Chart, Curve, Mark, axis_for, chart_html, extremes, means, short
from vqaudio.training.history import Series, read_log
from vqaudio.training.log import write_sample
from vqaudio.training.page import write_page
from vqaudio.training.page_samples import read_sound, samples_html, spectrogram_png

LOGS = Path(__file__).parent / "logs"
ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = Path(pretrained.__file__).parent / "speech-16k-v1"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

Entry = dict[str, Any]


def write_log(folder: Path, entries: list[Entry], *, end: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + end)
    return folder


def entries_of(name: str) -> list[Entry]:
    return [json.loads(line) for line in (LOGS / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The log of a shipped model, with sounds: two clips, each as it was and at three steps."""
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    shutil.copy(SHIPPED / "log.jsonl", folder)
    generator = torch.Generator().manual_seed(0)
    for clip in (0, 1):
        for name in ("original", "step-002000", "step-004000", "step-006000"):
            audio = 0.1 * torch.randn(1, 8_000, generator=generator)
            write_sample(folder / "samples" / f"{clip}-{name}.wav", audio, 16_000)
    return folder


class Reader(HTMLParser):
    """Checks that tags are closed in order, and collects text, attributes of each tag, and what would be fetched."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        return [
            found for name, found in self.tags if name == tag and (not kind or kind in found.get("class", "").split())
        ]


def page_of(folder: Path, **options: Any) -> Reader:
    return Reader(write_page(folder, **options).read_text())


def chart(title: str, text: str) -> str:
    """The HTML of one chart, by how its title begins, up to a unit or its end."""
    figures = re.findall(r'<figure class="chart.*?</figure>', text, re.S)
    (found,) = [figure for figure in figures if re.search(rf"<b>{re.escape(title)}( <span|</b>)", figure)]
    return found


def drawn(figure: str, line: str) -> list[tuple[float, float]]:
    """(step, value) as the page's script reads them off a line."""
    low, high, last = (float(re.search(rf'data-{name}="([^"]*)"', figure)[1]) for name in ("low", "high", "last"))  # type: ignore[index]
    logarithmic = 'data-log="1"' in figure
    path = re.search(rf'data-name="{line}" d="([^"]*)"', figure)
    assert path
    points = []
    for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path[1]):
        value = low + (1 - float(y) / 1000) * (high - low)
        points.append((float(x) / 1000 * last, 10**value if logarithmic else value))
    return points


# ---- the page as a whole


def test_a_page_is_whole_html_that_fetches_nothing(run: Path) -> None:
    path = write_page(run)
    text = path.read_text()
    assert path == run / "report.html"
    page = Reader(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes.get(name, "")[:80])
    assert "@import" not in text and "url(" not in text and "fetch(" not in text
    (policy,) = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "finished" in page.text
    assert "6,800" in page.text
    assert "Nothing that looks wrong" in page.text and "too early to judge" not in page.text


def test_every_number_of_a_log_is_in_some_chart(run: Path) -> None:
    text = write_page(run).read_text()
    history = read_log(run)
    titles = {
        "si_sdr": "SI-SDR",
        "step_seconds": "time of a step",
        "data_wait_seconds": "share of time spent waiting for data",
    }
    names = {
        *history.scalars("train"),
        *history.scalars("validation"),
        *history.lists("train"),
        *history.lists("validation"),
    }
    for name in names - {"seconds"}:
        assert chart(titles.get(name, name.replace("_", " ")), text), name
    assert "<h2>Other</h2>" not in text


def test_what_is_drawn_is_what_was_logged(run: Path) -> None:
    text = write_page(run).read_text()
    for name, title in (("mel", "mel"), ("si_sdr", "SI-SDR")):
        series = read_log(run).scalars("validation")[name]
        points = drawn(chart(title, text), "validation")
        np.testing.assert_allclose([step for step, _ in points], series.steps, atol=0.5)
        np.testing.assert_allclose([value for _, value in points], series.values, rtol=2e-3)
    norm = drawn(chart("gradient norm", text), "training")  # logarithmic, and means of neighbours
    logged = read_log(run).scalars("train")["gradient_norm"].values
    assert np.mean([value for _, value in norm]) == pytest.approx(np.mean(logged), rel=0.05)
    perplexity = chart("perplexity", text)
    for index, book in enumerate(read_log(run).lists("validation")["perplexity"]):
        values = [value for _, value in drawn(perplexity, f"codebook {index + 1}")]
        np.testing.assert_allclose(values, book.values, rtol=2e-3)


def test_the_health_of_every_codebook_is_in_a_table(run: Path) -> None:
    text = page_of(run).text
    assert "1 1,013 of 1,024 761.4 (74 %) 9.572 (96 %) 0.6512" in text
    assert "8 1,021 of 1,024 825.7 (81 %) 9.689 (97 %) 0.2707" in text


def test_stages_resumes_skipped_batches_and_findings_are_marked_in_every_chart(tmp_path: Path) -> None:
    entries = [entry for entry in entries_of("collapsed") if entry["kind"] != "end"]
    entries.insert(10, {"kind": "stage", "step": 120, "name": "adversarial"})
    entries += [
        {"kind": "skipped", "step": 130, "names": ["a"], "reason": "not finite"},
        {"kind": "resume", "step": 200},
    ]
    page = page_of(write_log(tmp_path, entries))
    num_charts = len(page.all("figure", "chart"))
    assert num_charts > 8
    for kind in ("stage", "resume", "skipped", "finding"):
        there = [tag for tag in page.all("i", kind) if "left" in tag.get("style", "")]
        assert len(there) == num_charts, kind
    assert {tag["title"] for tag in page.all("i", "finding") if "title" in tag} == {"step 300: codebook collapse"}
    assert "Codebook 1: perplexity 2.5 of 512" in page.text
    assert "revive_below above 0" in page.text
    assert "adversarial" in page.text


def test_a_stage_that_is_the_whole_run_is_no_boundary(tmp_path: Path) -> None:
    entries = entries_of("recovers")
    entries.insert(1, {"kind": "stage", "step": 0, "name": "reconstruction"})
    assert page_of(write_log(tmp_path, entries)).all("i", "stage") == []


def test_unknown_numbers_are_plotted_and_unknown_text_is_only_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    entries = [
        {"kind": "start", "step": 0, "recipe": {"name": evil, "note": evil}},
        *(
            {
                "kind": "train",
                "step": step,
                "loss": 1.0,
                "humidity": step / 7,
                evil: 2.0,
                "note": evil,
                "many": [1, 2.0],
            }
            for step in range(1, 30)
        ),
        {"kind": "tasting", "step": 20, "sweetness": 3.0},
        {"kind": "warning", "step": 25, "name": evil, "message": evil, "remedy": evil},
        {"kind": "stage", "step": 5, "name": evil},
    ]
    path = write_page(write_log(tmp_path, entries))
    page = Reader(path.read_text())
    assert "Other" in page.text
    for title in ("humidity", "many", "tasting: sweetness"):
        assert chart(title, path.read_text())
    assert len(page.all("script")) == 1  # its own
    assert page.text.count(evil) > 4


def test_the_page_of_a_game_has_its_own_section(tmp_path: Path) -> None:
    game = {"adversarial": 0.5, "feature_matching": 0.4, "discriminator": 1.8, "discriminator_gradient_norm": 2.0}
    entries = [{"kind": "train", "step": step, "loss": 1.0, **game} for step in range(1, 9)]
    text = write_page(write_log(tmp_path, entries)).read_text()
    section = text[text.index("<h2>Discriminators") : text.index("<h2>Optimiser")]
    assert all(chart(title, section) for title in ("adversarial", "feature matching", "discriminator"))
    assert "<b>discriminator gradient norm" in text[text.index("<h2>Optimiser") :]


# ---- half a log


def test_a_run_that_was_cut_off_has_a_page(tmp_path: Path) -> None:
    whole = (SHIPPED / "log.jsonl").read_bytes()
    tmp_path.joinpath("log.jsonl").write_bytes(whole[: len(whole) // 2])
    page = page_of(tmp_path)
    assert "not finished" in page.text
    assert "and 1 that could not be read" in page.text


@pytest.mark.parametrize("num_lines", [1, 2, 12])
def test_the_first_lines_of_a_run_have_a_page(tmp_path: Path, num_lines: int) -> None:
    lines = (SHIPPED / "log.jsonl").read_text().splitlines()[:num_lines]
    tmp_path.joinpath("log.jsonl").write_text("\n".join(lines) + "\n")
    text = page_of(tmp_path).text
    assert "speech-16k" in text
    assert "It is too early to judge codebooks" in text


def test_values_that_are_not_finite_leave_gaps(tmp_path: Path) -> None:
    values = [1.0, 2.0, math.nan, 4.0, math.inf, 6.0, 7.0]
    entries = [{"kind": "train", "step": step, "loss": value} for step, value in enumerate(values, 1)]
    figure = chart("loss", write_page(write_log(tmp_path, entries)).read_text())
    assert [round(step) for step, _ in drawn(figure, "training")] == [1, 2, 4, 6, 7]
    path = re.search(r'class="line".*? d="([^"]*)"', figure)
    assert path and path[1].count("M") == 3


def test_what_is_no_run_is_refused_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "there is no log.jsonl in it; name the folder that vqaudio train had as --out" in capsys.readouterr().err
    (tmp_path / "log.jsonl").write_text("")
    assert main(["report", str(tmp_path)]) == 1
    assert "log.jsonl: there is no entry in it yet" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("lines", "state", "expected"),
    [
        ([{"kind": "start", "step": 0, "recipe": {"steps": 900}, "total_steps": 60}], None, 60),
        ([{"kind": "start", "step": 0, "recipe": {"steps": 900}, "total_steps": 0}], None, None),  # minutes
        ([{"kind": "start", "step": 0, "total_steps": 0}, {"kind": "budget", "step": 30, "total_steps": 70}], None, 70),
        ([{"kind": "start", "step": 0, "recipe": {"steps": 900}}], 80, 80),
        ([{"kind": "start", "step": 0, "recipe": {"steps": 900}}], None, 900),
        ([{"kind": "start", "step": 0}, {"kind": "end", "step": 40}], 80, 40),
        ([{"kind": "start", "step": 0}], None, None),
    ],
)
def test_the_budget_is_found_where_it_is(
    tmp_path: Path, lines: list[Entry], state: int | None, expected: int | None
) -> None:
    write_log(tmp_path, lines)
    if state is not None:
        (tmp_path / "checkpoint-00000010").mkdir()
        (tmp_path / "checkpoint-00000010/state.json").write_text(json.dumps({"state": {"total_steps": state}}))
    assert read_log(tmp_path).total_steps == expected


# ---- comparison


def test_a_reference_is_drawn_and_judged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve = ROOT / "recipes/speech_16k_live/curve.csv"
    out = run / "other.html"
    assert main(["report", str(run), "--compare", str(curve), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"the report is in {out}" in said
    assert "inside the band of the reference (10 %) at every validation up to step 6,800" in said
    page = Reader(out.read_text())
    assert "inside the band of the reference (10 %)" in page.text
    points = drawn(chart("mel", out.read_text()), "reference")
    assert [round(step) for step, _ in points] == [1000, 2000, 3000, 4000, 5000, 6000]
    assert points[0][1] == pytest.approx(0.37247, rel=2e-3)
    assert main(["report", str(run), "--compare", str(curve), "--tolerance", "0.001"]) == 0
    assert "OUTSIDE the band of the reference (0.1 %), which it left at step 1,000" in capsys.readouterr().out
    assert "OUTSIDE" in (run / "report.html").read_text()


def test_the_command_says_what_looks_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path, entries_of("collapsed"))
    assert main(["report", str(tmp_path)]) == 0
    assert "! step 300, codebook collapse: codebook 1: perplexity 2.5 of 512" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--follow"])
    assert "--tensorboard is wanted with it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--tolerance", "-1"])
    assert "-1 is not a part from 0 on" in capsys.readouterr().err


# ---- size


def long_log(folder: Path, num_lines: int) -> Path:
    lists = {"residual_energy": [0.7, 0.5, 0.4, 0.3], "revived": [0.0, 1.0, 2.0, 1.0]}
    with open(folder / "log.jsonl", "w") as file:
        for number in range(1, num_lines + 1):
            noise = math.sin(number * 12.9898) * 0.3
            scalars = {name: 1.0 + noise + 100 / number for name in ("loss", "mel", "complex", "gradient_norm", "odd")}
            entry = {"kind": "train", "step": 20 * number, "seconds": 1.0 * number, "step_seconds": 0.5}
            file.write(json.dumps({**entry, **scalars, **lists}) + "\n")
    return folder


def test_the_page_of_a_long_run_stays_small(tmp_path: Path) -> None:
    path = write_page(long_log(tmp_path, 10_000))
    text = path.read_text()
    assert len(text) < 300_000
    for line in re.findall(r' d="([^"]*)"', text):
        assert line.count("M") + line.count("L") <= 1000
    assert drawn(chart("loss", text), "training")[0][1] > 2 * drawn(chart("loss", text), "training")[-1][1]


@pytest.mark.slow
def test_the_page_of_a_very_long_run_stays_small(tmp_path: Path) -> None:
    assert write_page(long_log(tmp_path, 100_000)).stat().st_size < 300_000


# ---- curves and axes


series = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400).map(
    lambda values: Series([3 * number for number in range(len(values))], values)
)


@given(series, st.integers(2, 60))
def test_thinning_keeps_what_sticks_out(series: Series, most: int) -> None:
    steps, values = extremes(series, most)
    assert len(values) <= max(most, 2)
    assert (values.min(), values.max()) == (min(series.values), max(series.values))
    assert (np.diff(steps) > 0).all()
    logged = dict(zip(series.steps, series.values, strict=True))
    assert all(logged[step] == value for step, value in zip(steps.tolist(), values.tolist(), strict=True))


@given(series, st.integers(2, 60))
def test_means_stay_within_and_keep_the_middle(series: Series, most: int) -> None:
    steps, values = means(series, most)
    assert len(values) <= most
    assert min(series.values) - 1e-6 <= values.min() <= values.max() <= max(series.values) + 1e-6
    if len(series.values) % len(values) == 0:  # bins of one size
        assert values.mean() == pytest.approx(np.mean(series.values), abs=1e-6, rel=1e-6)
        assert steps.mean() == pytest.approx(np.mean(series.steps))


def test_a_stretch_without_numbers_is_a_gap_when_thinned_too() -> None:
    values = [1.0] * 50 + [math.nan] * 50 + [2.0] * 50
    series = Series(list(range(150)), values)
    for thin in (extremes(series, 30), means(series, 30)):
        assert np.isnan(thin[1]).any()
        assert set(thin[1][~np.isnan(thin[1])].tolist()) == {1.0, 2.0}


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.booleans())
def test_ticks_are_round_few_and_inside(low: float, width: float, logarithmic: bool) -> None:
    axis = (
        Axis(low % 8 - 4, low % 8 - 4 + min(width, 12.0) + 0.5, True) if logarithmic else Axis(low, low + width, False)
    )
    ticks = axis.ticks()
    assert len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    assert all(-1 <= axis.place(tick) <= 1001 for tick in ticks)
    if not logarithmic and width > abs(low) * 1e-9:
        assert len(ticks) >= 2


def test_the_axis_is_logarithmic_where_values_differ_by_orders() -> None:
    def axis(*values: float, **options: Any) -> Axis:
        found = axis_for(Chart("x", (Curve("x", Series(list(range(len(values))), list(values)), "red"),), **options))
        assert found
        return found

    assert axis(1.0, 100.0).logarithmic
    assert not axis(1.0, 10.0).logarithmic
    assert not axis(0.0, 100.0).logarithmic
    assert not axis(1.0, 100.0, logarithmic=False).logarithmic
    assert axis(0.0, 0.0).low == 0.0 and axis(5.0, 5.0).high > 5.0
    assert axis(1.0, 5.0, bounds=(0.0, 10.0)) == Axis(0.0, 10.0, False)
    assert axis_for(Chart("x", (Curve("x", Series([1], [math.nan]), "red"),))) is None


def test_a_chart_is_described_to_those_who_do_not_see_it() -> None:
    text = chart_html(
        Chart("mel", (Curve("training", Series([1, 2, 3], [3.0, 2.0, 1.5]), "red"),)),
        [Mark("stage", 2, "b")],
        last_step=3,
    )
    assert 'aria-label="mel: training from 3 to 1.5"' in text
    assert 'tabindex="0"' in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (6800.0, "6,800"), (0.25, "0.25"), (3e-4, "3e-4"), (-12.5, "-12.5"), (2.5e6, "2.5M"), (1024, "1,024")],
)
def test_numbers_are_short(value: float, expected: str) -> None:
    assert short(value) == expected


# ---- sounds


def test_every_sound_can_be_played_and_seen(run: Path) -> None:
    text = write_page(run).read_text()
    page = Reader(text)
    labels = re.findall(r"<figure class=\"sound\"><figcaption><b>([^<]*)</b>", text)
    assert labels == ["original", "step 6,000", "step 4,000", "step 2,000"] * 2
    players = [base64.b64decode(tag["src"].partition("base64,")[2]) for tag in page.all("audio")]
    assert players[0] == (run / "samples/0-original.wav").read_bytes()
    assert players[5] == (run / "samples/1-step-006000.wav").read_bytes()
    pictures = [tag for tag in page.all("img") if tag["src"].startswith("data:image/png;base64,")]
    assert len(pictures) == 8
    assert "Not shown" not in page.text


def test_the_newest_sounds_are_kept_where_not_all_fit(run: Path) -> None:
    everything = len(samples_html(run))
    text = samples_html(run, most_bytes=everything * 5 // 8)
    assert len(text) < everything * 5 // 8 + 500
    assert re.findall(r"<b>([^<]*)</b>", text) == ["original", "step 6,000"] * 2
    assert "Not shown: steps 2,000, 4,000 would make the page larger than" in text
    least = samples_html(run, most_bytes=1000)
    assert "0-original.wav is too long for the page" in least and "<audio" not in least


def test_sounds_that_are_broken_or_foreign_are_named(run: Path) -> None:
    (run / "samples/0-step-004000.wav").write_bytes(b"RIFF")
    (run / "samples/1-step-002000.wav").write_bytes(b"")
    (run / "samples/my-own.wav").write_bytes(b"")
    text = html.unescape(page_of(run).text)
    assert "0-step-004000.wav cannot be read" in text
    assert "1-step-002000.wav cannot be read" in text
    assert "1 files with other names" in text


def pixels(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) shades and (N, 3) palette of an indexed PNG without filters, with its check sums checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + length
    W, H, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 3)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(H, W + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], np.frombuffer(chunks[b"PLTE"], dtype=np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
@pytest.mark.parametrize("share", [0.25, 0.75])
def test_a_spectrogram_shows_a_tone_where_and_when_it_is(tmp_path: Path, sample_rate: int, share: float) -> None:
    t = torch.arange(2 * sample_rate) / sample_rate
    tone = 0.5 * torch.sin(2 * torch.pi * share * sample_rate / 2 * t) * (t >= 1.0)
    write_sample(tmp_path / "tone.wav", tone[None], sample_rate)
    shades, palette = pixels(spectrogram_png(read_sound(tmp_path / "tone.wav")))
    H, W = shades.shape
    assert 200 <= W <= 322 and 100 <= H <= 160
    assert shades.max() < len(palette)
    later = shades[:, W * 3 // 4]
    assert later.argmax() == pytest.approx(H * (1 - share), abs=2)  # 0 Hz is at the bottom
    assert shades[:, W // 4].max() == 0  # silence
    assert palette[int(later.max())].sum() > palette[0].sum()


# ---- in a browser

PROBE = """
<script>
  const chart = [...document.querySelectorAll('.chart')].find((c) => c.querySelector('b').textContent === 'mel');
  const plot = chart.querySelector('.plot'), box = plot.getBoundingClientRect();
  const at = { clientX: box.left + box.width * 3000 / 6800, clientY: box.top + 50, bubbles: true };
  plot.dispatchEvent(new PointerEvent('pointermove', at));
  const tip = document.querySelector('.tip');
  const found = {
    tip: tip.innerText, shown: tip.style.display,
    crosses: [...document.querySelectorAll('.cross')].filter((c) => c.style.display === 'block').length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    flat: [...document.querySelectorAll('.plot, .picture img, audio')].filter((e) => e.offsetHeight < 30).length,
    errors: window.failures,
  };
  plot.dispatchEvent(new PointerEvent('pointerleave'));
  found.hidden = tip.style.display;
  document.title = JSON.stringify(found);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here to open the page with")
def test_a_browser_shows_the_page_and_reads_values_under_the_pointer(run: Path) -> None:
    text = write_page(run).read_text()
    catch = "<script>window.failures = []; onerror = (message) => { failures.push(message); };</script></head>"
    (run / "probe.html").write_text(text.replace("</head>", catch, 1).replace("</body>", PROBE, 1))
    assert CHROMIUM
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--dump-dom"]
    shown = subprocess.run(
        [CHROMIUM, *options, f"--user-data-dir={run / 'profile'}", (run / "probe.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(.*?)</title>", shown.stdout)
    assert title, shown.stderr[-2000:]
    found = json.loads(html.unescape(title[1]))
    assert found["errors"] == []
    assert found["shown"] == "block" and found["hidden"] == "none"
    assert "validation" in found["tip"] and "0.3276" in found["tip"]  # what the log has at step 3000
    assert found["crosses"] == text.count('<figure class="chart')
    assert found["overflow"] <= 0
    assert found["flat"] == 0
