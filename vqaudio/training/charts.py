"""Curves as SVG inside HTML: no library, nothing to fetch, and readable without scripts.

A plot is an SVG that is stretched to whatever room there is; its lines keep their width (`non-scaling-stroke`), and all
text beside it is HTML, so that it is as large on a telephone as on a wall.

    ┌ title            legend ┐      x: steps, from 0 to the last of the run, the same in every chart of a page
    │ 3 ┤ ╲                   │      y: from `low` to `high`, or their logarithms
    │ 2 ┤  ╲____              │      both are mapped to 0 … 1000 in the SVG; scripts map them back to read values
    └     0    500   1000     ┘

Long series are thinned: the faint line keeps the smallest and largest of every bin, the bold one its mean.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vqaudio.training.history import Series

SIZE = 1000  # of the SVG's coordinates, both ways
MOST_POINTS = 1000  # of a faint or plain line
MOST_MEANS = 120  # of a bold line; a series that is not longer than half of this is drawn as it is
LOG_FROM = 30.0  # ratio of the largest to the smallest from which on the axis is logarithmic
MOST_DOTS = 60  # values of a line that are also marked one by one

TRAIN, VALID, REFERENCE = "var(--train)", "var(--valid)", "var(--reference)"  # colours of the style sheet

Look = Literal["line", "noisy", "mean", "dots", "reference"]


@dataclass(frozen=True)
class Curve:
    """`noisy`: faint, with its mean over it; `mean`: that alone; `dots`: each value marked; `reference`: dashed."""

    label: str
    series: Series
    colour: str  # of CSS
    look: Look = "line"


@dataclass(frozen=True)
class Chart:
    title: str
    curves: tuple[Curve, ...]
    hint: str = ""  # what is normal, in a few words
    unit: str = ""
    bounds: tuple[float, float] | None = None  # None: what the curves need
    logarithmic: bool | None = None  # None: if all is positive and the largest is many times the smallest


@dataclass(frozen=True)
class Mark:
    """Something that happened at a step, drawn in every chart."""

    kind: Literal["stage", "resume", "finding", "skipped"]
    step: int
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of values on 0 … SIZE. `low` and `high` are logarithms to base 10 if it is logarithmic."""

    low: float
    high: float
    logarithmic: bool

    def place(self, value: float) -> float:
        if self.logarithmic:
            value = math.log10(max(value, 1e-300))
        return SIZE * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return _round_values(self.low, self.high, 5)
        first, last = math.floor(self.low), math.ceil(self.high)
        decades = self.high - self.low
        digits = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.5 else (1,)
        step = max(1, round(decades / 5))
        values = [digit * 10.0**power for power in range(first, last + 1, step) for digit in digits]
        return [value for value in values if self.low - 1e-9 <= math.log10(value) <= self.high + 1e-9]


def axis_for(chart: Chart) -> Axis | None:
    """The range that shows all of a chart's finite values; None if it has none."""
    values = [value for curve in chart.curves for value in curve.series.values if math.isfinite(value)]
    if not values:
        return None
    low, high = min(values), max(values)
    logarithmic = chart.logarithmic
    if logarithmic is None:
        logarithmic = chart.bounds is None and low > 0 and high / low >= LOG_FROM
    if logarithmic and low > 0:
        low, high = math.log10(low), math.log10(high)
        margin = 0.05 * (high - low) or 0.1
        return Axis(low - margin, high + margin, True)
    if chart.bounds is not None:
        return Axis(min(low, chart.bounds[0]), max(high, chart.bounds[1]), False)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    bottom = 0.0 if 0 <= low <= 0.3 * high else low - margin
    return Axis(bottom, high + margin, False)


def chart_html(chart: Chart, marks: Sequence[Mark] = (), *, last_step: int) -> str:
    """A <figure>; empty text for a chart without one finite value."""
    axis = axis_for(chart)
    if axis is None:
        return ""
    steps = Axis(0.0, float(max(last_step, 1)), False)
    rows = [(value, 100 - axis.place(value) * 100 / SIZE) for value in axis.ticks()]
    columns = [(value, steps.place(value) * 100 / SIZE) for value in _round_values(0, steps.high, 5)]
    grid = "".join(f"M0 {10 * y:.1f}H{SIZE}" for _, y in rows)
    lines = "".join(_curve_svg(curve, steps, axis) for curve in chart.curves)
    flags = "".join(_mark_html(mark, steps.place(mark.step) * 100 / SIZE) for mark in marks)
    described = html.escape(_described(chart), quote=True)
    title = html.escape(chart.title) + (f' <span class="unit">{html.escape(chart.unit)}</span>' if chart.unit else "")
    hint = f'<span class="hint">{html.escape(chart.hint)}</span>' if chart.hint else ""
    labels = "".join(f'<span style="top:{y:.2f}%">{short(value)}</span>' for value, y in rows)
    edge = ' class="edge"'  # a label that would stick out to the right
    below = "".join(
        f'<span{edge if x > 96 else ""} style="left:{x:.2f}%">{short(value)}</span>' for value, x in columns
    )
    return (
        f'<figure class="chart" tabindex="0" data-low="{axis.low!r}" data-high="{axis.high!r}" '
        f'data-log="{int(axis.logarithmic)}" data-last="{steps.high:g}">'
        f"<figcaption><b>{title}</b>{_legend(chart.curves)}</figcaption>"
        f'<div class="plot"><svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{described}"><path class="grid" d="{grid}"/>{lines}</svg>'
        f'<div class="rows">{labels}</div><div class="columns">{below}</div>'
        f'<div class="marks">{flags}</div><i class="cross"></i></div>{hint}</figure>'
    )


def short(value: float) -> str:
    """A number for a narrow place: 6,800, 0.25, 3e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:.4g}"


def codebook_colour(index: int, count: int) -> str:
    """From blue over green to red along the codebooks, in tones that stand out on light and on dark."""
    hue = 250 - 240 * index / max(count - 1, 1)
    return f"hsl({hue:.0f} 62% 52%)"


# ---- series -> fewer points


def extremes(series: Series, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, at most `most` of them: of each bin of neighbours the smallest and the largest, as they came.

    A bin without a finite value gives one NaN, which is a gap in the line.
    """
    steps, values = _arrays(series)
    if len(values) <= most:
        return steps, values
    kept = []
    for indices in np.array_split(np.arange(len(values)), max(1, most // 2)):
        there = indices[np.isfinite(values[indices])]
        if len(there) == 0:
            kept.append(int(indices[0]))
            continue
        kept += sorted({int(there[values[there].argmin()]), int(there[values[there].argmax()])})
    return steps[kept], values[kept]


def means(series: Series, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean step and mean finite value of at most `most` bins of neighbours; NaN for a bin that has none."""
    steps, values = _arrays(series)
    if len(values) <= most // 2:
        return steps, values
    bins = [
        (steps[indices].mean(), values[indices][np.isfinite(values[indices])])
        for indices in np.array_split(np.arange(len(values)), max(1, min(most, len(values) // 4)))
    ]
    return np.array([step for step, _ in bins]), np.array([part.mean() if len(part) else np.nan for _, part in bins])


def _arrays(series: Series) -> tuple[np.ndarray, np.ndarray]:
    return np.array(series.steps, dtype=np.float64), np.array(series.values, dtype=np.float64)


# ---- pieces


def _curve_svg(curve: Curve, steps: Axis, axis: Axis) -> str:
    colour, name = html.escape(curve.colour, quote=True), html.escape(curve.label, quote=True)
    noisy = curve.look == "noisy" and len(curve.series.values) > MOST_MEANS // 2
    averaged = noisy or curve.look == "mean"
    points = means(curve.series, MOST_MEANS) if averaged else extremes(curve.series, MOST_POINTS)
    line = _path(*points, steps, axis)
    dashed = ' stroke-dasharray="5 4"' if curve.look == "reference" else ""
    parts = []
    if noisy:
        faint = _path(*extremes(curve.series, MOST_POINTS), steps, axis)
        parts.append(f'<path class="faint" stroke="{colour}" d="{faint}"/>')
    parts.append(f'<path class="line" stroke="{colour}"{dashed} data-name="{name}" d="{line}"/>')
    if len(points[0]) == 1 or (curve.look == "dots" and len(points[0]) <= MOST_DOTS):
        # lines of no length with round ends: circles that the stretching does not squash
        dots = _path(*points, steps, axis, dots=True)
        parts.append(f'<path class="dots" stroke="{colour}" d="{dots}"/>')
    return "".join(parts)


def _path(x: np.ndarray, y: np.ndarray, steps: Axis, axis: Axis, *, dots: bool = False) -> str:
    pieces, pen_down = [], False
    for step, value in zip(x.tolist(), y.tolist(), strict=True):
        if not math.isfinite(value) or (axis.logarithmic and value <= 0):
            pen_down = False
            continue
        place = f"{steps.place(step):.2f} {SIZE - axis.place(value):.1f}"
        pieces.append(f"M{place}h0" if dots else f"{'L' if pen_down else 'M'}{place}")
        pen_down = True
    return "".join(pieces)


def _mark_html(mark: Mark, x: float) -> str:
    text = html.escape(mark.text, quote=True)
    label = f"<span>{text}</span>" if mark.kind == "stage" else ""
    return f'<i class="{mark.kind}{" late" if x > 75 else ""}" style="left:{x:.2f}%" title="{text}">{label}</i>'


def _legend(curves: Sequence[Curve]) -> str:
    if len(curves) < 2:
        return ""
    if len(curves) > 4:  # codebooks: the ends name the rest
        chips = "".join(f'<i style="background:{curve.colour}"></i>' for curve in curves)
        ends = html.escape(curves[0].label), html.escape(curves[-1].label.split()[-1])
        return f'<span class="legend">{ends[0]} <span class="chips">{chips}</span> {ends[1]}</span>'
    names = "".join(
        f'<span><i class="{curve.look}" style="--c:{curve.colour}"></i>{html.escape(curve.label)}</span>'
        for curve in curves
    )
    return f'<span class="legend">{names}</span>'


def _described(chart: Chart) -> str:
    parts = []
    for curve in chart.curves:
        values = [value for value in curve.series.values if math.isfinite(value)]
        if values:
            parts.append(f"{curve.label} from {short(values[0])} to {short(values[-1])}")
    return f"{chart.title}: {'; '.join(parts[:4])}{' …' if len(parts) > 4 else ''}"


def _round_values(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers in a range."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]
