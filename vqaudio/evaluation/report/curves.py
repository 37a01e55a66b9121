"""Rate and quality: for each measure a chart of kbit/s against the mean, as SVG inside HTML.

A plot is an SVG stretched to the room there is, with HTML for all that must not be stretched (see training.charts):

    ┌ PESQ-WB        higher is better ┐      x: kbit/s, logarithmic, the same range in every chart of a page
    │ 4 ┤          ┌─■                │      y: the means; whiskers are 95 % intervals, over files and, faint and
    │ 3 ┤    ●──●──┘   - - - resampled│         longer, over speakers
    │ 2 ┤  ●                          │      a bound without a rate is a line across; one far outside the others'
    └     1    2    4    8  kbit/s    ┘         range is named at the edge instead, and does not flatten them
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vqaudio.evaluation.report.folder import Evaluation, Facts
from vqaudio.evaluation.report.looks import Look, swatch
from vqaudio.evaluation.report.words import better, is_number, number, plural, rate, with_interval, with_unit
from vqaudio.training.charts import SIZE, Axis, short
from vqaudio.training.page_tables import escaped

ROOM = 0.08  # left free above and below, as a part of the range
FAR = 0.6  # of the curves' range: a bound farther away than this is named at the edge


@dataclass(frozen=True)
class Spot:
    """One point of a system in one chart."""

    point: Facts
    found: Facts  # mean, low, high, …
    kbps: float | None

    @property
    def mean(self) -> float:
        return float(self.found["mean"])

    def reach(self) -> list[float]:
        """Everything that has to fit into the chart."""
        ends = [self.found.get(name) for name in ("low", "high", "speakers_low", "speakers_high")]
        return [self.mean, *(float(end) for end in ends if is_number(end))]


@dataclass(frozen=True)
class Line:
    """One system in one chart, its spots by rate."""

    system: Facts
    look: Look
    spots: list[Spot] = field(default_factory=list)
    bounds: list[Spot] = field(default_factory=list)


def curves_html(evaluation: Evaluation, looks: dict[str, Look]) -> str:
    """All charts under one legend; empty text if nothing has a mean."""
    kbps = [point["kbps"] for _, point in evaluation.points() if _has_rate(point)]
    rates = rate_axis(kbps)
    charts = [
        chart_html(measure, lines_of(evaluation, looks, measure["name"]), rates) for measure in evaluation.measures
    ]
    charts = [chart for chart in charts if chart]
    if not charts:
        return ""
    intro = (
        "Bit rates against means over all files. Whiskers are 95 % intervals over files; the faint, longer ones are "
        "over speakers. Bounds have no rate and are lines across. Names switch systems off and on."
    )
    return f'<p>{intro}</p>{_legend(evaluation, looks)}<div class="charts rates">{"".join(charts)}</div>'


def lines_of(evaluation: Evaluation, looks: dict[str, Look], name: str) -> list[Line]:
    """The systems that have a mean of a value at any point."""
    lines = []
    for system in evaluation.systems:
        line = Line(system, looks[system["name"]])
        for point in system.get("points") or []:
            found = (point.get("values") or {}).get(name)
            if not found or not is_number(found.get("mean")):
                continue
            if _has_rate(point):
                line.spots.append(Spot(point, found, float(point["kbps"])))
            else:
                line.bounds.append(Spot(point, found, None))
        line.spots.sort(key=lambda spot: spot.kbps or 0.0)
        if line.spots or line.bounds:
            lines.append(line)
    return lines


def rate_axis(kbps: Sequence[float]) -> Axis:
    low, high = (math.log10(min(kbps)), math.log10(max(kbps))) if kbps else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.3
    return Axis(low - margin, high + margin, True)


def rate_ticks(axis: Axis) -> list[float]:
    """Doubling rates, as most codecs are set: 0.5, 1, 2, 4, … kbit/s; every second one where they are many."""
    exponents = range(math.ceil(axis.low / math.log10(2)), math.floor(axis.high / math.log10(2)) + 1)
    step = 1 if len(exponents) <= 7 else 2
    return [2.0**exponent for exponent in exponents if exponent % step == 0]


def value_axis(lines: Sequence[Line]) -> Axis:
    """What the curves need, and bounds that are not far away; bounds alone get all they need."""
    inner = [value for line in lines for spot in line.spots for value in spot.reach()]
    outer = [value for line in lines for spot in line.bounds for value in spot.reach()]
    values = inner or outer
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    near = [value for value in outer if low - FAR * span <= value <= high + FAR * span]
    low, high = min([low, *near]), max([high, *near])
    margin = ROOM * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - margin, high + margin, False)


def chart_html(measure: Facts, lines: Sequence[Line], rates: Axis) -> str:
    """A <figure>; empty text for a measure that has no mean."""
    if not lines:
        return ""
    axis = value_axis(lines)
    rows = [(value, 100 - axis.place(value) * 100 / SIZE) for value in axis.ticks()]
    columns = [(value, rates.place(value) * 100 / SIZE) for value in rate_ticks(rates)]
    grid = "".join(f"M0 {10 * y:.1f}H{SIZE}" for _, y in rows) + "".join(f"M{10 * x:.1f} 0V{SIZE}" for _, x in columns)
    left = "".join(f'<span style="top:{y:.2f}%">{short(value)}</span>' for value, y in rows)
    below = "".join(f'<span style="left:{x:.2f}%">{short(value)}</span>' for value, x in columns)
    note = f'<span class="hint">{escaped(measure["note"])}</span>' if measure.get("note") else ""
    return (
        f'<figure class="chart" tabindex="0" data-measure="{escaped(measure["name"])}">'
        f'<figcaption><b>{with_unit(measure)}</b><span class="legend">{better(measure)} '
        f"{'↑' if measure.get('better') != 'lower' else '↓'}</span></figcaption>"
        f'<div class="plot"><svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(_described(measure, lines))}"><path class="grid" d="{grid}"/>'
        f"{''.join(_line_svg(line, rates, axis) for line in lines)}</svg>"
        f'<div class="rows">{left}</div><div class="columns">{below}</div><span class="axis-name">kbit/s</span>'
        f'<div class="spots">{"".join(_marks(measure, line, lines, rates, axis) for line in lines)}</div></div>'
        f"{note}</figure>"
    )


# ---- pieces


def _has_rate(point: Facts) -> bool:
    return is_number(point.get("kbps")) and point["kbps"] > 0


def _legend(evaluation: Evaluation, looks: dict[str, Look]) -> str:
    there = [system for system in evaluation.systems if system.get("points")]
    names = "".join(
        f'<button type="button" aria-pressed="true" data-s="{looks[system["name"]].index}">'
        f"{swatch(looks[system['name']])}{escaped(system.get('label') or system['name'])}</button>"
        for system in there
    )
    return f'<div class="systems" role="group" aria-label="systems in the charts">{names}</div>'


def _line_svg(line: Line, rates: Axis, axis: Axis) -> str:
    colour, index = line.look.colour, line.look.index
    dashed = ' stroke-dasharray="6 4"' if line.look.dashed else ""
    pieces: list[str] = []
    whiskers: list[str] = []
    faint: list[str] = []
    for spot in line.spots:
        x = rates.place(spot.kbps or 1.0)
        pieces.append(f"{x:.1f} {SIZE - axis.place(spot.mean):.1f}")
        for names, into in ((("low", "high"), whiskers), (("speakers_low", "speakers_high"), faint)):
            low, high = (spot.found.get(name) for name in names)
            if is_number(low) and is_number(high):
                into.append(f"M{x:.1f} {SIZE - axis.place(low):.1f}V{SIZE - axis.place(high):.1f}")
    parts = [
        f'<path class="bound" d="M0 {SIZE - axis.place(spot.mean):.1f}H{SIZE}"/>'
        for spot in line.bounds
        if axis.low <= spot.mean <= axis.high
    ]
    if pieces:
        parts.append(f'<path class="faint" d="{"".join(faint)}"/><path class="whisker" d="{"".join(whiskers)}"/>')
        parts.append(f'<path class="line" d="M{"L".join(pieces)}"{dashed}/>')
    return f'<g data-s="{index}" stroke="{colour}">{"".join(parts)}</g>'


def _marks(measure: Facts, line: Line, lines: Sequence[Line], rates: Axis, axis: Axis) -> str:
    decimals = int(measure.get("decimals", 2))
    look, label = line.look, line.system.get("label") or line.system["name"]
    marks = []
    for spot in line.spots:
        x, y = rates.place(spot.kbps or 1.0) / 10, 100 - axis.place(spot.mean) / 10
        told = escaped("\n".join(_told(label, spot, decimals)))
        marks.append(
            f'<i class="mark {look.marker}" data-s="{look.index}" data-tip="{told}" '
            f'style="left:{x:.2f}%;top:{y:.2f}%;--c:{look.colour}"></i>'
        )
    for spot in line.bounds:
        far = "" if axis.low <= spot.mean <= axis.high else " ↑" if spot.mean > axis.high else " ↓"
        y = min(max(100 - axis.place(spot.mean) / 10, 0.0), 100.0)
        said = f"{_with_point(label, spot)} {number(spot.mean, decimals)}{far}"
        told = escaped("\n".join(_told(label, spot, decimals)))
        side = " ".join(["far"] * (far == " ↑") + ["late"] * _is_crowded_early(lines, y, rates, axis))
        marks.append(
            f'<span class="bound {side}" data-s="{look.index}" data-tip="{told}" '
            f'style="top:{y:.2f}%;--c:{look.colour}">{escaped(said)}</span>'
        )
    return "".join(marks)


def _is_crowded_early(lines: Sequence[Line], y: float, rates: Axis, axis: Axis) -> bool:
    """Whether a label at height `y` meets fewer marks at the right end of a chart than at the left one."""

    def nearest(low: float, high: float) -> float:
        """The room to the marks between two places, in hundredths."""
        places = ((rates.place(s.kbps or 1.0) / 10, 100 - axis.place(s.mean) / 10) for one in lines for s in one.spots)
        return min((abs(place - y) for x, place in places if low <= x <= high), default=100.0)

    return nearest(0, 55) < 8 and nearest(0, 55) < nearest(45, 100)


def _told(label: str, spot: Spot, decimals: int) -> Iterator[str]:
    """What is shown under the pointer, line by line."""
    yield _with_point(label, spot)
    yield with_interval(spot.found, decimals)
    if spot.kbps is not None:
        by_entropy = spot.point.get("kbps_by_entropy")
        coded = f" ({rate(by_entropy)} by entropy)" if is_number(by_entropy) else ""
        yield f"{rate(spot.kbps)} kbit/s{coded}"
    low, high = spot.found.get("speakers_low"), spot.found.get("speakers_high")
    if is_number(low) and is_number(high):
        yield f"over speakers [{number(low, decimals)}, {number(high, decimals)}]"
    if is_number(spot.found.get("files")):
        yield plural(int(spot.found["files"]), "file")


def _with_point(label: str, spot: Spot) -> str:
    point = str(spot.point.get("label") or "")
    return label if not point or point == label else f"{label}, {point}"


def _described(measure: Facts, lines: Sequence[Line]) -> str:
    """The chart for those who do not see it; the summary table has every number."""
    decimals, parts = int(measure.get("decimals", 2)), []
    for line in lines:
        label = line.system.get("label") or line.system["name"]
        ends = [(line.spots[0], line.spots[-1])] if line.spots else []
        parts += [
            f"{label} from {number(first.mean, decimals)} at {rate(first.kbps)} "
            f"to {number(last.mean, decimals)} at {rate(last.kbps)} kbit/s"
            for first, last in ends
        ]
        parts += [f"{_with_point(label, spot)} {number(spot.mean, decimals)}" for spot in line.bounds]
    return f"{measure['label']}: {'; '.join(parts)}"
