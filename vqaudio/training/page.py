"""A run on one page: `report.html`, made of log.jsonl and samples/, complete in itself.

Nothing is fetched from anywhere (a content security policy in the page forbids it), so that the file can be mailed,
kept beside the model, and opened in years. It can be made of a run that is going on, was killed, or is done.
"""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vqaudio.io import write_aside
from vqaudio.training.charts import (
    REFERENCE,
    TRAIN,
    VALID,
    Chart,
    Curve,
    Look,
    Mark,
    chart_html,
    codebook_colour,
    short,
)
from vqaudio.training.curve import TOLERANCE, compare, curve_of, read_curve
from vqaudio.training.health import HealthCheck, replay
from vqaudio.training.health_rules import STRETCH, CodebookHealth, codebook_health, codebook_sizes
from vqaudio.training.history import History, Series, flat, read_log
from vqaudio.training.page_samples import samples_html
from vqaudio.training.page_style import SCRIPT, STYLE
from vqaudio.training.page_tables import codebook_table, comparison_table, duration, escaped, sentence, words

PAGE_NAME = "report.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:"

# What is plotted where, with what is normal; names not listed anywhere come last, under "Other".
LOSSES = {
    "loss": "the weighted sum; it may rise where parts with quantiser terms do, or where a stage adds one",
    "si_sdr": "higher is better: how well the waveform itself is met",
    "mel": "lower is better: what is audible of the spectrum",
    "magnitude": "lower is better",
    "log_magnitude": "lower is better: quiet parts count as loud ones do",
    "complex": "lower is better: it hears phase",
    "compressed_magnitude": "lower is better: between the two, as loudness is",
    "compressed_complex": "lower is better: it hears phase, also that of quiet parts",
    "waveform_l1": "lower is better",
    "waveform_mse": "lower is better",
    "mu_law": "lower is better: nats per sample",
    "commitment": "settles: it grows as latents do, and should not grow without end",
    "codebook": "settles, as commitment does",
    "residual": "settles, as commitment does",
}
GAME = {
    "discriminator": "between 0 (it has won) and 2 for hinge or 0.5 for least squares (it is blind)",
    "adversarial": "no right value: look at it beside the discriminator's",
    "feature_matching": "falls, or stays; rising while the discriminator's falls means it has won",
}
CODEBOOKS = {
    "perplexity": "codes that, used alike, would say as much; healthy from half of the codebook on",
    "entropy_bits": "bits that a code carries, of those it costs",
    "residual_energy": "what each level leaves, of the latents' variance: falls from level to level",
    "used": "codes seen at least once",
    "revived": "dead codes replaced in a batch: a few of a thousand are normal",
}
MARKS = {
    "stage": "a stage begins",
    "resume": "resumed",
    "finding": "something looks wrong",
    "skipped": "skipped batch",
}
EVENTS = ("start", "resume", "budget", "stage", "skipped", "warning", "end")


def write_page(
    run_folder: str | Path,
    *,
    out: str | Path | None = None,
    curve: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> Path:
    """Write `report.html` into the run's folder, or to `out`; `curve` is a reference curve to compare with."""
    run_folder = Path(run_folder)
    history = read_log(run_folder)
    path = run_folder / PAGE_NAME if out is None else Path(out)
    text = page_html(history, curve=curve, tolerance=tolerance)
    with write_aside(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def page_html(history: History, *, curve: str | Path | None = None, tolerance: float = TOLERANCE) -> str:
    page = _Page(history, None if curve is None else read_curve(curve))
    sections = {
        "Losses": page.losses(),
        "Codebooks": page.codebooks(),
        "Discriminators": page.game(),
        "Optimiser": page.optimizer(),
        "Speed": page.speed(),
        "Other": page.other(),
        "Samples": samples_html(history.path.parent),
        "Settings": page.settings(),
    }
    if page.reference is not None:
        sections = {"Comparison": page.comparison(str(curve), tolerance), **sections}
    sections = {name: body for name, body in sections.items() if body}
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    bodies = "".join(
        f'<section id="{name.lower()}">{"" if name == "Settings" else f"<h2>{name}</h2>"}{body}</section>'
        for name, body in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(page.name)}</title><style>{STYLE}</style></head>\n<body>"
        f"<header>{page.header()}</header><nav><div>{links}</div></nav>\n<main>{bodies}</main>"
        f"<footer>{page.footer()}</footer>\n<script>{SCRIPT}</script></body></html>\n"
    )


@dataclass(frozen=True)
class _Source:
    """Every series of a log, by name."""

    train: dict[str, Series]
    valid: dict[str, Series]
    train_lists: dict[str, list[Series]]
    valid_lists: dict[str, list[Series]]


class _Page:
    """The parts of one page."""

    def __init__(self, history: History, reference: list[dict[str, float]] | None) -> None:
        self.history, self.reference = history, reference
        self.name = str(history.settings.get("name") or history.path.parent.name or "run")
        self.last_step = history.last_step
        self.source = _Source(
            history.scalars("train"), history.scalars("validation"), history.lists("train"), history.lists("validation")
        )
        self.check = HealthCheck.of(history.settings)
        self.findings = self._findings()
        self.marks = self._marks()
        sizes = codebook_sizes(history.settings)
        lists = (*self.source.valid_lists.values(), *self.source.train_lists.values())
        self.sizes = sizes or (0,) * max((len(rows) for rows in lists), default=0)  # 0: not known
        self.drawn: set[str] = set()

    # ---- what happened

    def _findings(self) -> list[tuple[int, str, str, str]]:
        """(step, name, message, remedy): what the log holds as warnings, and what its numbers give rise to."""
        replayed = replay(self.history, self.check)
        found = [(step, finding.name, finding.message, finding.remedy) for step, finding in replayed]
        told = {(step, name) for step, name, _, _ in found}
        for entry in self.history.of_kind("warning"):
            name, message = str(entry.get("name", "warning")), str(entry.get("message", ""))
            if (entry["step"], name) not in told:
                found.append((entry["step"], name, message, str(entry.get("remedy", ""))))
        return sorted(found)

    def _marks(self) -> list[Mark]:
        of_kind = self.history.of_kind
        skipped = of_kind("skipped")[-500:]  # a page full of them says no more
        marks = [Mark("skipped", entry["step"], f"step {entry['step']:,}: batch skipped") for entry in skipped]
        marks += [Mark("resume", entry["step"], f"resumed from step {entry['step']:,}") for entry in of_kind("resume")]
        stages = [Mark("stage", entry["step"], str(entry.get("name", "stage"))) for entry in of_kind("stage")]
        marks += stages if any(mark.step > 0 for mark in stages) else []  # a single one is the whole run
        return marks + [Mark("finding", step, f"step {step:,}: {name}") for step, name, _, _ in self.findings]

    # ---- sections

    def header(self) -> str:
        history, total = self.history, self.history.total_steps
        skipped = len(history.of_kind("skipped"))
        progress = '<span class="pill good">finished</span>'
        if not history.finished:
            written = time.strftime("%Y-%m-%d %H:%M", time.localtime(history.path.stat().st_mtime))
            progress = f'<span class="pill soft">not finished: last written {written}</span>'
        seconds = self.source.train.get("seconds")
        pace = self.source.train.get("step_seconds")
        facts = [
            ("steps" if total in (None, self.last_step) else f"steps of {total:,}", f"{self.last_step:,}"),
            ("training time", duration(seconds.values[-1]) if seconds else "–"),
            ("a step, median", f"{1000 * statistics.median(pace.values):.0f} ms" if pace else "–"),
        ]
        for name, said in (("loss", "validation loss"), ("si_sdr", "SI-SDR"), ("mel", "mel distance")):
            if name in self.source.valid:
                value = self.source.valid[name].values[-1]
                facts.append((said, f"{value:.2f} dB" if name == "si_sdr" else short(value)))
        shares = [(health.perplexity_share, number) for number, health in enumerate(self.health(), 1) if health.size]
        measured = [(share, number) for share, number in shares if share is not None]
        if measured:
            share, number = min(measured)
            said = "perplexity, of V" if len(measured) == 1 else f"least perplexity, of V (codebook {number})"
            facts.append((said, f"{100 * share:.0f} %"))
        facts.append(("skipped batches", f"{skipped:,}"))
        tiles = "".join(
            f'<div class="tile"><b>{escaped(value)}</b><span>{escaped(said)}</span></div>' for said, value in facts
        )
        start = history.of_kind("start")
        parameters = start[-1].get("parameters") if start else None
        about = [f"{parameters / 1e6:.2f} M parameters"] if isinstance(parameters, int) else []
        about += [f"{len(self.sizes)} codebooks" if len(self.sizes) > 1 else "one codebook"] if self.sizes else []
        about += [f"resumed {len(history.of_kind('resume'))} times"] if history.of_kind("resume") else []
        title = f'<h1>{escaped(self.name)}</h1>{progress}<p class="about">{escaped(", ".join(about))}</p>'
        return f'{title}<div class="tiles">{tiles}</div>{self.health_panel()}{self.key()}'

    def health_panel(self) -> str:
        if not self.findings:
            young = (
                "" if self.check.has_judged else " It is too early to judge codebooks: dead ones may still be revived."
            )
            said = f"<b>Nothing that looks wrong</b> in codebooks, losses and discriminators.{young}"
            return f'<div class="panel findings none">{said}</div>'
        items = "".join(
            f'<li><b>{escaped(name)}</b><span class="at">step {step:,}</span><p>{escaped(sentence(message))}</p>'
            f'<p class="remedy">{escaped(remedy)}</p></li>'
            for step, name, message, remedy in self.findings
        )
        return f'<div class="panel findings"><b>What looks wrong</b><ol>{items}</ol></div>'

    def key(self) -> str:
        there = {mark.kind for mark in self.marks}
        parts = [
            f'<span><span class="marks"><i class="{kind}"></i></span>{said}</span>'
            for kind, said in MARKS.items()
            if kind in there
        ]
        return f'<div class="key">In the charts: {"".join(parts)}</div>' if parts else ""

    def losses(self) -> str:
        charts = [self.chart(name, hint, unit="dB" if name == "si_sdr" else "") for name, hint in LOSSES.items()]
        return self.grid(charts, "Bold: means over neighbouring lines; faint: the lines themselves.", wide_first=True)

    def game(self) -> str:
        extra = [name for name in self.source.train if name.startswith("discriminator") and not _is_setting(name)]
        return self.grid([self.chart(name, GAME.get(name, "")) for name in dict.fromkeys((*GAME, *extra))])

    def optimizer(self) -> str:
        names = [name for name in self.source.train if "learning_rate" in name]
        charts = [self.chart(name, "warm-up, then a cosine that ends with the budget", look="line") for name in names]
        charts = [replace(chart, logarithmic=False) for chart in charts if chart is not None]
        norms = [name for name in self.source.train if _is_norm(name)]
        hint = "before clipping; single spikes are normal, a lasting rise is not"
        charts += [self.chart(name, hint) for name in norms]
        return self.grid(charts)

    def speed(self) -> str:
        train = self.source.train
        charts = [self.chart("step_seconds", "", unit="s", title="time of a step")]
        wait, work = train.get("data_wait_seconds"), train.get("step_seconds")
        if wait and work:
            pairs = zip(wait.values, work.values, strict=False)
            shares = [100 * a / (a + b) if a + b > 0 else 0.0 for a, b in pairs]
            curve = Curve("waiting", Series(wait.steps, shares), TRAIN, "noisy")
            hint = "above a few per cent, reading the packs is what holds the run up"
            charts.append(Chart("share of time spent waiting for data", (curve,), hint, unit="%"))
        self.drawn |= {"data_wait_seconds", "seconds"}
        return self.grid(charts)

    def codebooks(self) -> str:
        charts = [self.chart_of_list(name, hint) for name, hint in CODEBOOKS.items()]
        body = self.grid(charts)
        healths = self.health()
        if not any(health.perplexity is not None for health in healths):
            return body
        return f'<div class="panel scroll">{codebook_table(healths)}</div><p></p>{body}'

    def other(self) -> str:
        source = self.source
        charts = [self.chart(name, "") for name in (*source.train, *source.valid)]
        charts += [self.chart_of_list(name, "") for name in (*source.train_lists, *source.valid_lists)]
        kinds = dict.fromkeys(entry["kind"] for entry in self.history.entries)
        for kind in kinds:
            if kind not in (*EVENTS, "train", "validation"):
                for name, series in self.history.scalars(kind).items():
                    charts.append(Chart(words(f"{kind}: {name}"), (Curve(name, series, TRAIN, "dots"),)))
        return self.grid(charts)

    def comparison(self, name: str, tolerance: float) -> str:
        assert self.reference is not None
        found = compare(
            curve_of(self.history), self.reference, tolerance=tolerance, total_steps=self.history.total_steps
        )
        return f"<p>With <code>{escaped(name)}</code>, dashed in the charts.</p>{comparison_table(found)}"

    def settings(self) -> str:
        rows = "".join(
            f'<tr><td><code>{escaped(key)}</code></td><td class="text">{escaped(_setting(value))}</td></tr>'
            for key, value in flat(self.history.settings)
        )
        return f'<details><summary>Settings</summary><table class="facts">{rows}</table></details>' if rows else ""

    def footer(self) -> str:
        lines = f"{len(self.history.entries):,} lines of {escaped(self.history.path.name)}"
        unreadable = self.history.num_unreadable
        cut = f", and {unreadable:,} that could not be read" if unreadable else ""
        return f"Made by vqaudio report from {lines}{cut}. docs/training_log.md says what each curve means."

    # ---- pieces

    def chart(self, name: str, hint: str, *, unit: str = "", title: str = "", look: Look = "noisy") -> Chart | None:
        """Training and validation of one number, unless it is in another chart already; None if the log has it not."""
        if name in self.drawn:
            return None
        self.drawn.add(name)
        curves = []
        if name in self.source.train:
            curves.append(Curve("training", self.source.train[name], TRAIN, look))
        if name in self.source.valid:
            curves.append(Curve("validation", self.source.valid[name], VALID, "dots"))
        if not curves:
            return None
        return Chart(title or words(name), (*curves, *self.reference_curves(name)), hint, unit)

    def chart_of_list(self, name: str, hint: str) -> Chart | None:
        """One line a codebook, of validation lines, or of training lines where there are too few of those."""
        if name in self.drawn:
            return None
        self.drawn.add(name)
        valid, train = self.source.valid_lists.get(name, []), self.source.train_lists.get(name, [])
        use_valid = bool(valid) and (not train or len(valid[0].values) >= 3)
        rows = valid if use_valid else train
        look: Look = "dots" if use_valid else "mean"
        each = "codebook" if name in CODEBOOKS else "index"
        curves = [
            Curve(f"{each} {index + 1}", series, codebook_colour(index, len(rows)) if len(rows) > 1 else VALID, look)
            for index, series in enumerate(rows)
        ]
        curves += self.reference_curves(f"{name}_0") if len(rows) == 1 else ()
        where = "on validation clips" if use_valid else "in training batches"
        return Chart(words(name), tuple(curves), f"{where}; {hint}" if hint else where) if curves else None

    def reference_curves(self, name: str) -> tuple[Curve, ...]:
        """A reference curve where the run's steps are: stretched if the run's budget is larger."""
        there = [(row["step"], row[name]) for row in self.reference or () if name in row]
        if not there or self.reference is None:
            return ()
        stretch = max(1.0, (self.history.total_steps or 0) / self.reference[-1]["step"])
        shown = [(step * stretch, value) for step, value in there if step * stretch <= self.last_step]
        if not shown:
            return ()
        series = Series([round(step) for step, _ in shown], [value for _, value in shown])
        return (Curve("reference", series, REFERENCE, "reference"),)

    def grid(self, charts: Iterable[Chart | None], said: str = "", *, wide_first: bool = False) -> str:
        drawn = [chart_html(chart, self.marks, last_step=self.last_step) for chart in charts if chart is not None]
        drawn = [text for text in drawn if text]
        if wide_first and drawn:
            drawn[0] = drawn[0].replace('class="chart"', 'class="chart wide"', 1)
        intro = f"<p>{said}</p>" if said else ""
        return f'{intro}<div class="charts">{"".join(drawn)}</div>' if drawn else ""

    def health(self) -> list[CodebookHealth]:
        validations = [entry for entry in self.history.of_kind("validation") if "perplexity" in entry]
        return codebook_health(
            self.sizes, validations[-1] if validations else {}, self.history.of_kind("train")[-STRETCH:]
        )


def _is_norm(name: str) -> bool:
    return "gradient" in name and "norm" in name


def _is_setting(name: str) -> bool:
    return _is_norm(name) or "learning_rate" in name


def _setting(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
