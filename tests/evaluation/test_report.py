"""The report of an evaluation: that it says what was measured and what was not, needs nothing else, and works."""

import base64
import html
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation import chromium
from tests.evaluation.report_folder import (
    CODEC2_MISSING,
    DNSMOS_MISSING,
    EVIL,
    FOREIGN,
    NO_VOICE,
    NUM_FILES,
    path_of,
    write_evaluation,
)
from vqaudio.cli import main
from vqaudio.evaluation.report import write_report
from vqaudio.evaluation.report.clips import clips_html, turns
from vqaudio.evaluation.report.codebooks import sorted_use
from vqaudio.evaluation.report.curves import Line, Spot, rate_axis, rate_ticks, value_axis
from vqaudio.evaluation.report.folder import read_evaluation
from vqaudio.evaluation.report.looks import looks_of
from vqaudio.evaluation.report.pictures import codes_png, mel_places, mel_spectrum, ranks_by_use
from vqaudio.evaluation.report.words import date, number, rate, with_interval
from vqaudio.io import inspect_audio, read_audio

NUM_POINTS = 9
# By clip: the original, the bound, and points of a model and of a codec.
PLAYERS = {
    "clip-1": ["reference", "resampled", *(f"speech-16k@{k}" for k in (2, 4, 8)), *(f"opus@{r}" for r in (6, 12, 24))],
    "clip-2": ["reference", "resampled", "speech-16k@8"],
}
NUM_PLAYERS = sum(len(names) for names in PLAYERS.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluation(tmp_path_factory.mktemp("evaluation") / "here")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_report(folder, figures=False)


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text("utf-8")


def copied(folder: Path, to: Path, **changes: Any) -> Path:
    """The results without clips, changed at the top level."""
    to.mkdir()
    facts = json.loads((folder / "evaluation.json").read_text("utf-8"))
    (to / "evaluation.json").write_text(json.dumps({**facts, "clips": [], **changes}), "utf-8")
    shutil.copy(folder / "files.jsonl", to)
    return to


class Reader(HTMLParser):
    """Checks that tags are closed in order, and collects tags with their attributes and the visible text."""

    VOID = frozenset({"meta", "img", "link", "input", "br"})

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


def section(text: str, title: str) -> str:
    (found,) = re.findall(rf'<section id="{title}">.*?</section>', text, re.S)
    return str(found)


def table_data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="files-data">(.*?)</script>', text, re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


# ---- what is on it


def test_the_page_is_whole_html_that_fetches_nothing(text: str) -> None:
    page = Reader(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes.get(name, "")[:80])
    assert "http://" not in text and "https://" not in text
    assert "@import" not in text and "url(" not in text and "fetch(" not in text
    assert "default-src 'none'" in text
    assert len(text) < 3_000_000


def test_names_are_text_wherever_they_come(text: str) -> None:
    page = Reader(text)
    assert "<script>alert" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 2  # the page's own, and its data
    assert EVIL in page.text  # among the problems
    assert "Young <model> & co" in page.text and "<b>No such file</b>" in page.text
    assert FOREIGN in page.text
    assert {facts[0] for facts in table_data(text)["files"]} == {path_of(index) for index in range(NUM_FILES)}


def test_the_head_says_what_was_evaluated(text: str) -> None:
    said = Reader(text).text
    assert "speech-16k, Young <model> & co on Café corpus" in said
    assert "split test, speech, scored at 16,000 Hz, 26 November 2026, 01:00 UTC" in said
    assert f"{NUM_FILES} files" in said and "4 speakers" in said
    assert "2 problems" in said
    procedure = Reader(section(text, "procedure")).text
    assert "95 % intervals of 2000 resamples, seed 0" in procedure and "torch 2.11.0" in procedure


def test_every_mean_is_in_the_summary_with_its_interval(text: str, folder: Path) -> None:
    facts = read_evaluation(folder)
    summary = Reader(section(text, "summary")).text
    for _, point in facts.points():
        for measure in facts.measures:
            if measure["name"] in point["values"]:
                assert with_interval(point["values"][measure["name"]], measure["decimals"]) in re.sub(
                    r" \d+ \[",
                    " [",
                    summary,  # the small numbers of notes
                )
    assert re.search(r"speech-16k 8 codebooks 4\.00 3\.68 400 93 × 8\.0 × 2\.81 \[2\.7\d, 2\.9\d\]", summary)


def test_what_was_not_measured_says_why_and_is_never_zero(text: str) -> None:
    summary, missing = section(text, "summary"), Reader(section(text, "not-measured")).text
    assert f"not measured: {CODEC2_MISSING}" in Reader(summary).text
    assert f'title="{NUM_FILES} files: {NO_VOICE}">not measured' in summary  # of the bound
    assert f"1 file: {NO_VOICE}" in Reader(summary).text  # of all others
    for reason in (CODEC2_MISSING, DNSMOS_MISSING, f"{NUM_FILES} files: {NO_VOICE}", f"1 file: {NO_VOICE}"):
        assert reason in missing
    assert "DNSMOS" not in Reader(summary).text  # no column without a single value
    assert not re.search(r'data-v="0(\.0)?"', summary)


def test_a_value_without_a_reason_is_not_made_up(folder: Path, tmp_path: Path) -> None:
    facts = json.loads((folder / "evaluation.json").read_text("utf-8"))
    del facts["systems"][1]["points"][0]["values"]["pesq_wb"]
    text = write_report(copied(folder, tmp_path / "gap", systems=facts["systems"]), figures=False).read_text("utf-8")
    assert "no value and no reason were recorded" in section(text, "summary")


def test_values_of_some_recordings_only_are_marked(folder: Path, tmp_path: Path) -> None:
    there = copied(folder, tmp_path / "thin", one_in={"pesq_wb": 4})
    text = write_report(there, figures=False).read_text("utf-8")
    said = "measured of one recording in 4, chosen by its hash"
    assert section(text, "summary").count(f'title="{said}"') == NUM_POINTS
    assert f"PESQ-WB most files {said}" in Reader(section(text, "not-measured")).text
    assert [column[5] for column in table_data(text)["columns"]] == [said, "", "", ""]


def test_charts_have_every_point_of_every_system_and_bounds_across(text: str, folder: Path) -> None:
    charts = re.findall(r'<figure class="chart" .*?</figure>', section(text, "rate-and-quality"), re.S)
    assert len(charts) == 4
    assert [len(re.findall(r'<i class="mark [^>]*data-tip', chart)) for chart in charts] == [8, 8, 8, 8]
    assert [chart.count('class="bound"') for chart in charts] == [1, 1, 0, 0]  # drawn; of SI-SDR it is far above
    assert "Resampled to 16 kHz 87.1 ↑" in charts[2]
    tips = [html.unescape(tip) for tip in re.findall(r'data-tip="([^"]*)"', charts[0])]
    point = next(point for _, point in read_evaluation(folder).points() if point["name"] == "speech-16k@8")
    value = with_interval(point["values"]["pesq_wb"], 2)
    (told,) = [tip for tip in tips if tip.startswith("speech-16k, 8 codebooks\n")]
    assert value in told and "4.00 kbit/s (3.68 by entropy)" in told and f"{NUM_FILES} files" in told


def test_a_system_has_one_colour_everywhere(text: str) -> None:
    assert "--s1:#0072b2" in text and "--s1:#56b4e9" in text  # light and dark, of the first model
    for part in ("rate-and-quality", "summary", "clips", "codebooks"):
        assert "var(--s1)" in section(text, part), part
    assert table_data(text)["points"][1][2] == 1


def test_codebooks_are_told_one_by_one(text: str, folder: Path) -> None:
    body = Reader(section(text, "codebooks")).text
    book = read_evaluation(folder).systems[1]["codebooks"][2]
    assert f"{book['used']:,} of 1,024" in body
    assert f"{book['entropy_bits']:.2f} of 10 bits {rate(book['entropy_bits'] * 50 / 1000)} kbit/s" in body
    assert section(text, "codebooks").count('class="use"') == 8 + 3


def test_the_table_of_files_has_every_value(text: str, folder: Path) -> None:
    data = table_data(text)
    assert [len(rows) for rows in data["rows"]] == [NUM_FILES] * NUM_POINTS
    names = [column[0] for column in data["columns"]]
    for line in read_evaluation(folder).lines:
        place = [name for name, _, _ in data["points"]].index(line["point"])
        (row,) = [row for row in data["rows"][place] if data["files"][row[0]][0] == line["path"]]
        for name, value, (_, _, _, decimals, _, _) in zip(names, row[2], data["columns"], strict=True):
            if name in line["values"]:
                assert value == pytest.approx(line["values"][name], abs=0.51 * 10.0 ** -(decimals + 1))
            else:
                assert value is None
                assert data["reasons"][row[3][str(names.index(name))]] == NO_VOICE
    assert len(json.dumps(data)) < 60 * NUM_FILES * NUM_POINTS + 5_000  # 60 bytes for a line with four values


def test_clips_hold_the_very_files_and_their_codes(text: str, folder: Path) -> None:
    players = [attributes for tag, attributes in Reader(text).tags if tag == "audio"]
    assert len(players) == NUM_PLAYERS
    sounds = [base64.b64decode(player["src"].partition("base64,")[2]) for player in players]
    assert sounds[0] == (folder / "clips/clip-1/reference.flac").read_bytes()
    assert sounds[4] == (folder / "clips/clip-1/speech-16k@8.flac").read_bytes()
    assert text.count('<figure class="codes"') == 2
    assert text.count('class="pitch"') == NUM_PLAYERS
    assert "Not shown, see the folder clips: clip-1: Young &lt;model&gt; &amp; co 3 codebooks" in text


def test_the_same_folder_gives_the_same_bytes(folder: Path, page: Path, tmp_path: Path) -> None:
    again = write_report(folder, out=tmp_path / "again.html", figures=False)
    assert again.read_bytes() == page.read_bytes()


def test_figures_are_files_and_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    evaluation = read_evaluation(folder)
    written = []
    for name in ("one", "two"):
        there = copied(folder, tmp_path / name, measures=evaluation.measures[2:3], systems=evaluation.systems[:2])
        write_report(there)
        written.append({path.name: path.read_bytes() for path in (there / "figures").iterdir()})
    kinds = (".png", ".svg")
    assert set(written[0]) == {f"{name}{kind}" for name in ("si_sdr", "codebooks") for kind in kinds}
    assert written[0] == written[1]
    svg = written[0]["si_sdr.svg"].decode("utf-8")
    assert "SI-SDR (dB) ↑" in svg and "Resampled to 16 kHz 87.1 ↑" in svg and "speech-16k" in svg


def test_without_matplotlib_there_is_a_page_that_says_so(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    there = copied(folder, tmp_path / "bare")
    said = Reader(write_report(there).read_text("utf-8")).text
    assert "Without figures: matplotlib is not installed; pip install 'vqaudio[eval]' brings it." in said
    assert not (there / "figures").exists()


# ---- half an evaluation, or none


def test_an_evaluation_of_nothing_has_a_page(tmp_path: Path) -> None:
    facts = {"format": "vqaudio-evaluation", "version": 1, "systems": [], "measures": []}
    (tmp_path / "evaluation.json").write_text(json.dumps(facts), "utf-8")
    said = Reader(write_report(tmp_path).read_text("utf-8")).text
    assert said.startswith("Evaluation") and "no problems" in said


def test_lines_that_are_cut_off_are_a_problem_by_name(folder: Path, tmp_path: Path) -> None:
    there = copied(folder, tmp_path / "cut")
    whole = (folder / "files.jsonl").read_bytes()
    (there / "files.jsonl").write_bytes(whole[: len(whole) // 2])
    text = write_report(there, figures=False).read_text("utf-8")
    assert "files.jsonl 1 line could not be read" in Reader(section(text, "problems")).text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no evaluation.json in it"),
        ("{", "cannot be read as JSON"),
        ('{"format": "other"}', "is no result of an evaluation"),
        ('{"format": "vqaudio-evaluation", "version": 2}', "has version 2, and this vqaudio reads up to 1"),
    ],
)
def test_what_is_no_evaluation_is_refused_with_a_reason(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=expected):
        write_report(tmp_path)


def test_clips_that_do_not_fit_are_left_out_by_name_in_turns(folder: Path) -> None:
    evaluation = read_evaluation(folder)
    looks = looks_of(evaluation.systems)
    least = sum((folder / f"clips/clip-{n}/reference.flac").stat().st_size for n in (1, 2))
    room = 9 * least
    text = clips_html(evaluation, looks, most_bytes=room)
    assert len(text) < room + 6_000
    shown = re.findall(r"alt=\"spectrogram of ([^\"]*)\"", text)
    assert shown.count("original") == 2 and shown.count("speech-16k 8 codebooks") == 2
    assert "speech-16k 4 codebooks" not in shown
    assert "speech-16k 4 codebooks" in Reader(text).text
    order = [point["name"] for point in turns(evaluation.systems[1]["points"])]
    assert order == ["speech-16k@8", "speech-16k@2", "speech-16k@4"]


def test_a_sound_that_is_missing_or_broken_is_named(folder: Path, tmp_path: Path) -> None:
    there = shutil.copytree(folder, tmp_path / "broken")
    (there / "clips/clip-1/opus@6.flac").write_bytes(b"fLaC")
    (there / "clips/clip-1/speech-16k.vqt").write_bytes(b"nothing")
    (there / "clips/clip-2/reference.flac").unlink()
    evaluation = read_evaluation(there)
    said = Reader(clips_html(evaluation, looks_of(evaluation.systems))).text
    assert re.search(r"Opus 6 kbit/s \(.*opus@6.flac: ", said)
    assert "codes of speech-16k (" in said
    assert re.search(r"clip-2: .*reference.flac: cannot be opened", said)


# ---- numbers, axes, pictures


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [(1.749, 2, "1.75"), (-0.004, 2, "0.00"), (-1.25, 1, "−1.2"), (12345.6, 0, "12,346"), (None, 2, "–")],
)
def test_numbers_have_their_decimals(value: float | None, decimals: int, expected: str) -> None:
    assert number(value, decimals) == expected


def test_means_rates_and_dates_read_as_in_text() -> None:
    assert with_interval({"mean": 1.749, "low": 1.716, "high": 1.784}, 2) == "1.75 [1.72, 1.78]"
    assert with_interval({"mean": 1.749}, 2) == "1.75"
    assert [rate(kbps) for kbps in (0.5, 11.64, 256.2, None)] == ["0.50", "11.6", "256", "–"]
    assert date("2026-11-26T01:00:00Z") == "26 November 2026, 01:00 UTC"
    assert date("yesterday") == "yesterday"


def test_rates_double_from_tick_to_tick() -> None:
    assert rate_ticks(rate_axis([0.5, 4.0, 24.0])) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(rate_ticks(rate_axis([0.25, 512.0]))) <= 7
    assert rate_axis([2.0]).low < np.log10(2.0) < rate_axis([2.0]).high


def test_a_bound_far_away_does_not_flatten_the_curves() -> None:
    system, look = {"name": "a"}, looks_of([{"name": "a"}])["a"]
    spots = [Spot({}, {"mean": mean}, 1.0) for mean in (1.0, 3.0)]

    def reach(bound: float) -> tuple[bool, float]:
        axis = value_axis([Line(system, look, spots, [Spot({}, {"mean": bound}, None)])])
        return axis.low <= bound <= axis.high, axis.high - axis.low

    assert reach(4.0)[0] and reach(0.0)[0]
    assert reach(80.0) == (False, pytest.approx(2 * 1.16))


def test_colours_of_models_do_not_depend_on_what_else_is_there() -> None:
    systems = [{"name": "b", "kind": "bound"}, {"name": "m", "kind": "model"}, {"name": "c", "kind": "codec"}]
    alone = looks_of([systems[1]])["m"]
    assert looks_of(systems)["m"].light == alone.light
    many = looks_of([{"name": str(index), "kind": "codec"} for index in range(24)])
    assert len({(look.light, look.marker) for look in many.values()}) == 24


def test_sorted_use_is_relative_to_even_use() -> None:
    assert sorted_use([5, 5, 5, 5]).tolist() == [1, 1, 1, 1]
    assert sorted_use([0, 0, 8, 0]).tolist() == [4, 0, 0, 0]
    assert ranks_by_use([3, 9, 0, 9]).tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_a_spectrogram_shows_a_tone_at_its_height(sample_rate: int) -> None:
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(sample_rate) / sample_rate)
    power = mel_spectrum(tone, sample_rate)
    bands, frames = power.shape
    ((_, height),) = mel_places(sample_rate, (1_000,))
    assert power[:, frames // 2].argmax() == pytest.approx(height * bands, abs=1)
    assert np.isfinite(power).all() and (power[:, frames // 2] > -99.9).sum() > bands / 2  # no band without a bin


def test_codes_are_drawn_row_by_row() -> None:
    codes = np.array([[0, 1, 2, 3], [3, 3, 0, 0]])
    data = codes_png(codes, [np.arange(4), np.arange(4)])
    assert data[16:24] == (4).to_bytes(4, "big") + (2).to_bytes(4, "big")  # wide, high


# ---- commands


def test_the_command_reports_runs_and_evaluations(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = copied(folder, tmp_path / "one", measures=[], systems=[])
    assert main(["report", str(there), "--out", str(tmp_path / "other.html")]) == 0
    assert f"the report is in {tmp_path / 'other.html'}" in capsys.readouterr().out
    assert "Café corpus" in (tmp_path / "other.html").read_text("utf-8")
    with pytest.raises(SystemExit):
        main(["report", str(there), "--compare", "curve.csv"])
    assert "is an evaluation" in capsys.readouterr().err


def test_plot_draws_sound_and_codes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, codes = folder / "clips/clip-1/reference.flac", folder / "clips/clip-1/speech-16k.vqt"
    assert main(["plot", str(codes), "--out", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures/speech-16k.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["plot", str(sound), "--out", str(tmp_path / "sound.svg")]) == 0
    svg = (tmp_path / "sound.svg").read_text("utf-8")
    assert all(said in svg for said in ("reference.flac", "amplitude", "kHz, mel scale", "F0, Hz"))
    assert "codebook" not in svg
    assert main(["plot", str(codes), "--model", "speech-16k", "--out", str(tmp_path / "codes.svg")]) == 0
    svg = (tmp_path / "codes.svg").read_text("utf-8")
    assert all(said in svg for said in ("speech-16k.vqt", "amplitude", "codebook"))
    with pytest.raises(SystemExit):
        main(["plot", str(codes), "--out", str(tmp_path / "a.gif")])
    assert "a folder, or a file that ends in .png or .svg, is wanted" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "none.wav")]) == 1
    assert "none.wav: cannot be opened" in capsys.readouterr().err


# ---- in a browser

PLAY_ALL = """
Promise.all([...document.querySelectorAll('audio')].map(async (audio) => {
  if (audio.readyState < 4) await new Promise((done, failed) => {
    audio.oncanplaythrough = done; audio.onerror = () => failed(new Error('cannot play')); audio.preload = 'auto';
    audio.load();
  });
  const text = atob(audio.src.split('base64,')[1]);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
  const rate = 16000, decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  const samples = decoded.getChannelData(0);
  return [audio.duration, decoded.length, samples[1000], samples[decoded.length - 1000]];
}))
"""
COLUMN = (
    """[...document.querySelectorAll('%s tbody > tr:not(.more)')].map((row) => (row.cells[%d] || {}).textContent)"""
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, page: Path) -> Iterator[chromium.Browser]:
    if chromium.PATH is None:
        pytest.skip(chromium.MISSING)
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as found:
        found.open(page)
        yield found


def test_a_browser_plays_every_player_to_the_sample(browser: chromium.Browser, folder: Path) -> None:
    found = browser.evaluate(PLAY_ALL)
    assert len(found) == NUM_PLAYERS
    paths = [folder / f"clips/{clip}/{name}.flac" for clip, names in PLAYERS.items() for name in names]
    for path, (duration, length, early, late) in zip(paths, found, strict=True):
        audio = read_audio(path)[0][0]
        assert duration == pytest.approx(inspect_audio(path).seconds, abs=1e-3)
        assert length == len(audio)
        assert (early, late) == pytest.approx((float(audio[1000]), float(audio[-1000])), abs=1e-4)


def test_a_browser_sorts_the_summary_with_what_is_missing_last(browser: chromium.Browser) -> None:
    names = COLUMN % ("table.sortable", 0)
    before = browser.evaluate(names)
    assert before[0] == "Resampled to 16 kHz"
    for column, way in ((6, -1), (6, 1), (9, -1)):
        browser.evaluate(f"document.querySelectorAll('table.sortable thead button')[{column}].click()")
        cells = browser.evaluate(COLUMN % ("table.sortable", column)) if column == 6 else []
        values = [float(cell.split()[0]) for cell in cells[:NUM_POINTS]]
        assert values == sorted(values, reverse=way < 0)
        after = browser.evaluate(names)
        assert after != before and sorted(after) == sorted(before)
        assert after[-1] == "Codec2"
    assert after[-2] == "Resampled to 16 kHz"  # its F0 correlation was not measured
    browser.evaluate("document.querySelectorAll('table.sortable thead button')[0].click()")
    assert browser.evaluate(names)[0] == "Codec2"


def test_a_browser_sorts_filters_and_unfolds_files(browser: chromium.Browser, text: str) -> None:
    values = [float(cell) for cell in browser.evaluate(COLUMN % ("#files-table", 4))]
    assert len(values) == NUM_FILES and values == sorted(values)  # the worst file first
    said = "document.getElementById('files-said').textContent"
    # speech-16k at 8 codebooks is what is shown first
    assert f"{NUM_FILES} of {NUM_FILES} files; mean PESQ-WB 2.81" in browser.evaluate(said)
    browser.evaluate("document.querySelectorAll('#files-table thead button')[4].click()")
    again = [float(cell) for cell in browser.evaluate(COLUMN % ("#files-table", 4))]
    assert again == values[::-1]

    def type_in(words: str) -> list[str]:
        browser.evaluate(
            f"(() => {{ const box = document.getElementById('files-filter'); box.value = {json.dumps(words)};"
            "box.dispatchEvent(new Event('input')); })()"
        )
        found: list[str] = browser.evaluate(COLUMN % ("#files-table", 0))
        return found

    assert type_in("ÉLODIE") == [FOREIGN]
    assert type_in("<script>") == [EVIL]
    assert len(type_in("speaker 1")) == 4
    assert type_in("nothing of this kind") == []
    assert len(type_in("")) == NUM_FILES
    choose = "(() => {{ const box = document.getElementById('files-point'); box.value = '{}';"
    browser.evaluate(choose.format(0) + "box.dispatchEvent(new Event('change')); })()")
    column = browser.evaluate(COLUMN % ("#files-table", 7))
    assert column == ["not measured"] * NUM_FILES
    browser.evaluate("document.querySelector('#files-table .path').click()")
    inside = browser.evaluate("document.querySelectorAll('#files-table .more tbody tr').length")
    assert inside == NUM_POINTS


def test_a_browser_reads_points_and_switches_systems_off(browser: chromium.Browser) -> None:
    tip = browser.evaluate(
        """(() => {
          const chart = document.querySelector('.rates .chart'), box = chart.querySelector('.plot');
          const spot = [...chart.querySelectorAll('.mark')].find((m) => m.dataset.tip.startsWith('Opus, 12'));
          const at = spot.getBoundingClientRect();
          box.dispatchEvent(new PointerEvent('pointermove', { clientX: at.x + 6, clientY: at.y + 3, bubbles: true }));
          const shown = document.querySelector('.tip').textContent;
          chart.focus();
          chart.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }));
          return [shown, document.querySelector('.tip').textContent];
        })()"""
    )
    assert tip[0].startswith("Opus, 12 kbit/s\n") and "12.5 kbit/s" in tip[0]
    assert tip[1].startswith("Opus, 24 kbit/s\n")
    hidden = browser.evaluate(
        """(() => {
          const button = [...document.querySelectorAll('.systems button')].find((b) => b.textContent === 'Opus');
          button.click();
          const off = document.querySelectorAll('.rates .mark.off').length;
          button.click();
          return [off, document.querySelectorAll('.rates .off').length];
        })()"""
    )
    assert hidden == [4 * 3, 0]


def test_a_browser_goes_on_at_the_same_place_in_another_version(browser: chromium.Browser) -> None:
    places = browser.evaluate(
        """(async () => {
          const sounds = [...document.querySelector('.clip').querySelectorAll('.sound')];
          const [first, second] = sounds.map((sound) => sound.querySelector('audio'));
          first.currentTime = 1.25;
          await first.play();
          await second.play();
          const found = [first.paused, second.currentTime, sounds[1].classList.contains('playing')];
          second.pause();
          return found;
        })()"""
    )
    assert places[0] is True and 1.2 < places[1] < 2.0 and places[2] is True


def test_a_browser_tells_codes_under_the_pointer(browser: chromium.Browser, folder: Path) -> None:
    from vqaudio.codes import Codes

    told = browser.evaluate(
        """(() => {
          const grid = document.querySelector('.codes .grid'), box = grid.getBoundingClientRect();
          const at = { clientX: box.left + box.width * 40.5 / 100, clientY: box.top + box.height * 2.5 / 8 };
          grid.dispatchEvent(new PointerEvent('pointermove', at));
          return document.querySelector('.tip').textContent;
        })()"""
    )
    code = int(Codes.load(folder / "clips/clip-1/speech-16k.vqt").values[0, 2, 40])
    assert told == f"codebook 3: {code:,}\nframe 40, 0.80 s"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_a_browser_finds_nothing_wrong(browser: chromium.Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    wide = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.seen("Runtime.exceptionThrown") == []
    assert [entry["entry"] for entry in browser.seen("Log.entryAdded")] == []
    requested = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]
