"""The validation curve of a run, as a table that travels (curve.csv), and whether another run keeps up with it.

A reference curve says what is normal for a recipe. A run is inside the band of its reference while no metric is worse
than the reference by more than a tolerance, 10 % by default. Better is never outside. What "10 % worse" means:

    losses of reconstruction    at most 1.1 times the reference
    perplexity, codes in use    at least the reference / 1.1
    SI-SDR                      the error's share of the output's power, 1 / (1 + 10^(dB / 10)), at most 1.1 times as
                                large: that is 0.5 dB at 6 dB, and nearly nothing matters far below 0 dB

Not judged: what moves with the scale that the latents happen to have, which is commitment, codebook and residual
losses, the total loss with these in it, and residual energy. The two shipped speech models, alike in every score,
differ there by up to a quarter.

Which point of the reference? The one that has seen as many steps; but learning rates follow the budget, so a run of
a larger budget is still restless where its reference was already annealed. The reference is therefore read at

    step × min(1, steps of the reference / steps of the run)

linearly between its rows: a point that has seen no more than the run has, and is no further in its schedule. A run that
is as good as its reference should be no worse than that. Points outside the reference's steps are not compared.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vqaudio.io import write_aside
from vqaudio.training.history import History, read_log
from vqaudio.training.log import LOG_NAME

Row = Mapping[str, float]
Sense = Literal["lower", "higher", "decibel"]

TOLERANCE = 0.10
# By name, or by family for those with one value a codebook.
SENSES: dict[str, Sense] = {
    "mel": "lower",
    "magnitude": "lower",
    "log_magnitude": "lower",
    "complex": "lower",
    "compressed_magnitude": "lower",
    "compressed_complex": "lower",
    "waveform_l1": "lower",
    "waveform_mse": "lower",
    "mu_law": "lower",
    "perplexity": "higher",
    "used": "higher",
    "si_sdr": "decibel",
}
NOT_JUDGED = {
    **dict.fromkeys(("loss", "commitment", "codebook", "residual", "residual_energy"), "moves with the latents' scale"),
    "entropy_bits": "says what perplexity says",
    "minutes": "depends on the machine",
}


# ---- the curve


def validations(log: str | Path) -> list[dict[str, float]]:
    """The validation lines of a log, each with the minutes of training before it; lists become name_0, name_1, …"""
    log = Path(log)
    rows = curve_of(read_log(log.parent if log.name == LOG_NAME else log))
    if not rows:
        raise ValueError(f"{log}: there is no validation in this log yet")
    return rows


def curve_of(history: History) -> list[dict[str, float]]:
    """As `validations`, of a log that has been read; empty before the first validation."""
    rows, seconds = [], 0.0
    for entry in history.entries:
        if entry["kind"] == "train":
            seconds = entry.get("seconds", seconds)
        elif entry["kind"] == "validation":
            row: dict[str, float] = {"step": entry["step"], "minutes": round(seconds / 60, 1)}
            for name, value in entry.items():
                if isinstance(value, list):
                    row.update({f"{name}_{index}": item for index, item in enumerate(value)})
                elif name not in ("kind", "step"):
                    row[name] = value
            rows.append(row)
    return rows


def write_curve(rows: Sequence[Row], path: str | Path) -> None:
    """One line a row, one column a name; a cell is empty where its row lacks the name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with write_aside(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_curve(path: str | Path) -> list[dict[str, float]]:
    """The rows that `write_curve` wrote, in order of their steps."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        rows = [{name: _number(text) for name, text in row.items() if text not in (None, "")} for row in found]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path}: is no curve as vqaudio writes them, a table of numbers ({error})") from error
    if not rows or not all("step" in row for row in rows):
        raise ValueError(f"{path}: is no curve as vqaudio writes them: rows with a column named step are wanted")
    return sorted(rows, key=lambda row: row["step"])


def _number(text: str) -> float:
    value = float(text)
    return int(text) if value.is_integer() and re.fullmatch(r"-?\d+", text) else value


def curve_table(rows: Sequence[Row]) -> list[str]:
    """Markdown lines: the losses that the run had, and the perplexity of its first and last codebook."""
    present = {name for row in rows for name in row}
    books = sorted(
        (name for name in present if name.startswith("perplexity_")), key=lambda name: int(name.split("_")[1])
    )
    shown: list[str] = [
        name for name in ("step", "minutes", "loss", "mel", "waveform_mse", "si_sdr") if name in present
    ]
    shown += [books[0], books[-1]] if len(books) > 1 else books
    lines = ["| " + " | ".join(name.replace("_", " ") for name in shown) + " |", "|" + "--:|" * len(shown)]
    return lines + ["| " + " | ".join(str(row.get(name, "–")) for name in shown) + " |" for row in rows]


# ---- the comparison


@dataclass(frozen=True)
class Point:
    """A metric at one validation of the run. `excess`: by which part it is worse than the reference, < 0 if better."""

    step: int
    value: float
    reference: float
    excess: float


@dataclass(frozen=True)
class MetricBand:
    name: str
    points: tuple[Point, ...]  # at least one, in order of steps
    tolerance: float

    @property
    def worst(self) -> Point:
        return max(self.points, key=lambda point: point.excess)

    @property
    def left_at(self) -> int | None:
        """The first step at which it was outside the band; None if it never was."""
        return next((point.step for point in self.points if point.excess > self.tolerance), None)

    @property
    def inside_at_end(self) -> bool:
        return self.points[-1].excess <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """A run against a reference curve, metric by metric, and the metrics that were not compared with the reason why."""

    metrics: tuple[MetricBand, ...]
    not_compared: dict[str, str]
    tolerance: float
    stretch: float  # steps of the run for each step of the reference, at least 1

    @property
    def verdict(self) -> Literal["inside", "came back", "outside", "nothing compared"]:
        """`came back`: something was outside for a while, and nothing is at the last validation."""
        if not self.metrics:
            return "nothing compared"
        if all(metric.left_at is None for metric in self.metrics):
            return "inside"
        return "came back" if all(metric.inside_at_end for metric in self.metrics) else "outside"

    @property
    def inside(self) -> bool:
        return self.verdict == "inside"

    @property
    def left_at(self) -> int | None:
        """The first step at which any metric was outside."""
        return min((metric.left_at for metric in self.metrics if metric.left_at is not None), default=None)

    @property
    def how(self) -> str:
        if self.stretch > 1:
            return f"the budget is {self.stretch:.3g} times the reference's: compared at equal shares of both"
        return "compared at equal steps"

    @property
    def by_family(self) -> list[MetricBand]:
        """The metrics, and of those with one value a codebook the codebook that did worst."""
        families: dict[str, list[MetricBand]] = {}
        for metric in self.metrics:
            families.setdefault(_family(metric.name)[0], []).append(metric)
        return [max(members, key=lambda member: member.worst.excess) for members in families.values()]

    @property
    def left_out(self) -> list[str]:
        """A line for each reason not to compare, with the metrics that it held for."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.not_compared.items():
            reasons.setdefault(reason, []).append(_family(name)[0])
        return [f"not compared: {', '.join(dict.fromkeys(names))} ({reason})" for reason, names in reasons.items()]

    def lines(self) -> list[str]:
        """For people: the verdict, a line for each metric (of a family, its worst codebook), what was left out."""
        percent = f"{100 * self.tolerance:g} %"
        last = max((metric.points[-1].step for metric in self.metrics), default=0)
        opening = {
            "inside": f"inside the band of the reference ({percent}) at every validation up to step {last:,}",
            "came back": f"left the band of the reference ({percent}) at step {self.left_at or 0:,}, and came back",
            "outside": f"OUTSIDE the band of the reference ({percent}), which it left at step {self.left_at or 0:,}",
            "nothing compared": "nothing to compare with the reference yet",
        }
        lines = [opening[self.verdict], f"  {self.how}"]
        width = max((len(label(metric)) for metric in self.by_family), default=0)
        lines += [f"  {label(metric):{width}}  {_said(metric)}" for metric in self.by_family]
        return lines + [f"  {line}" for line in self.left_out]


def compare(
    rows: Sequence[Row], reference_rows: Sequence[Row], *, tolerance: float = TOLERANCE, total_steps: int | None = None
) -> Comparison:
    """Whether a run's curve keeps inside the band of a reference; see the top of this file.

    `total_steps` is the run's budget; None takes it to be the reference's, that is the step of its last row.
    """
    if not tolerance >= 0:
        raise ValueError(f"the tolerance is {tolerance}, and a part such as 0.1 is wanted")
    reference_steps = max(row["step"] for row in reference_rows)
    run_steps = max(reference_steps, total_steps or 0)
    names = list(dict.fromkeys(name for source in (rows, reference_rows) for row in source for name in row))
    metrics, not_compared = [], {}
    for name in names:
        if name == "step":
            continue
        ours = [(row["step"], row[name]) for row in rows if name in row]
        theirs = [(row["step"], row[name]) for row in reference_rows if name in row and math.isfinite(row[name])]
        sense = SENSES.get(_family(name)[0])
        if not ours or not theirs:
            not_compared[name] = "only in the reference" if not ours else "not in the reference"
        elif sense is None:
            not_compared[name] = NOT_JUDGED.get(_family(name)[0], "not known here")
        elif points := _points(ours, theirs, sense, reference_steps, run_steps):
            metrics.append(MetricBand(name, tuple(points), tolerance))
        else:
            not_compared[name] = "no step in the range of the reference"
    return Comparison(tuple(metrics), not_compared, tolerance, run_steps / reference_steps if reference_steps else 1.0)


def compare_run(folder: str | Path, curve: str | Path, *, tolerance: float = TOLERANCE) -> Comparison:
    """A run's folder, finished or not, against a curve file."""
    history = read_log(folder)
    return compare(curve_of(history), read_curve(curve), tolerance=tolerance, total_steps=history.total_steps)


def _points(
    ours: Sequence[tuple[float, float]],
    theirs: Sequence[tuple[float, float]],
    sense: Sense,
    reference_steps: float,
    run_steps: float,
) -> list[Point]:
    steps, values = (np.array(column, dtype=np.float64) for column in zip(*theirs, strict=True))
    points = []
    for step, value in ours:
        place = step * reference_steps / run_steps if run_steps else step
        if steps[0] <= place <= steps[-1]:
            reference = float(np.interp(place, steps, values))
            points.append(Point(int(step), value, reference, excess(value, reference, sense)))
    return points


def excess(value: float, reference: float, sense: Sense) -> float:
    """By which part a value is worse than the reference: 0.1 for 10 %, negative if it is better; infinite for NaN."""
    if not math.isfinite(value):
        return math.inf
    if sense == "decibel":
        return _error_share(value) / _error_share(reference) - 1.0
    worse, better = (value, reference) if sense == "lower" else (reference, value)
    if worse == better:
        return 0.0
    if better <= 0.0:  # no ratio to speak of
        return math.inf if worse > better else -1.0
    return worse / better - 1.0


def _error_share(decibels: float) -> float:
    return 1.0 / (1.0 + 10.0 ** (decibels / 10.0))


def _family(name: str) -> tuple[str, int | None]:
    """(perplexity, 3) for perplexity_3; (mel, None) for mel."""
    match = re.fullmatch(r"(.+)_(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)


def label(metric: MetricBand) -> str:
    """A metric's name for people: perplexity, codebook 4."""
    family, index = _family(metric.name)
    return family.replace("_", " ") + (f", codebook {index + 1}" if index is not None else "")


def state(metric: MetricBand) -> str:
    if metric.left_at is None:
        return "inside"
    return f"left at step {metric.left_at:,}" + (", back inside" if metric.inside_at_end else "")


def _said(metric: MetricBand) -> str:
    last, worst = metric.points[-1], metric.worst
    text = f"{last.value:.4g} against {last.reference:.4g}, {_worse(last.excess)}"
    if worst.step != last.step and round(worst.excess - last.excess, 3):
        text += f"; {_worse(worst.excess)} at step {worst.step:,}"
    return f"{text}: {state(metric)}"


def _worse(part: float) -> str:
    return f"{abs(100 * part):.1f} % {'worse' if part > 0 else 'better'}" if round(part, 3) else "equal"
