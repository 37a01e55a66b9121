"""The figures of an evaluation as files, for papers and slides: what the page draws, as PNG and SVG."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vqaudio.evaluation.drawing import FORMATS, SETTINGS, new_figure, plain, save_figure
from vqaudio.evaluation.report.codebooks import sorted_use
from vqaudio.evaluation.report.curves import Line, lines_of, rate_axis, rate_ticks, value_axis
from vqaudio.evaluation.report.folder import Evaluation, Facts
from vqaudio.evaluation.report.looks import looks_of
from vqaudio.evaluation.report.words import is_number
from vqaudio.training.charts import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES_NAME = "figures"
SHAPES = {"circle": "o", "square": "s", "diamond": "D", "triangle": "^"}
PANEL = (3.9, 2.9)  # inches
MOST_ACROSS = 3


def write_figures(evaluation: Evaluation) -> None:
    """`figures/`: rate-quality and one file a value, codebooks; MatplotlibMissingError before anything is written."""
    drawn = _drawn(evaluation)
    folder = evaluation.folder / FIGURES_NAME
    for name, figure in drawn:
        folder.mkdir(exist_ok=True)
        for suffix in FORMATS:
            save_figure(figure, folder / f"{name}{suffix}")


def _drawn(evaluation: Evaluation) -> list[tuple[str, "Figure"]]:
    looks = looks_of(evaluation.systems)
    charts = [(measure, lines_of(evaluation, looks, measure["name"])) for measure in evaluation.measures]
    charts = [(measure, lines) for measure, lines in charts if lines]
    kbps = [point["kbps"] for _, point in evaluation.points() if is_number(point.get("kbps")) and point["kbps"] > 0]

    def draw_curves(axes: "Axes", index: int) -> None:
        _curves(axes, *charts[index], kbps)

    figures = []
    if len(charts) > 1:
        figures.append(("rate-quality", _panels(len(charts), draw_curves, legend=True)))
    for index, (measure, _) in enumerate(charts):
        figures.append((measure["name"], _panels(1, lambda axes, _, at=index: draw_curves(axes, at), legend=True)))  # type: ignore[misc]
    models = [
        system for system in evaluation.systems if any(book.get("counts") for book in system.get("codebooks") or [])
    ]
    if models:
        figures.append(("codebooks", _panels(len(models), lambda axes, index: _codebooks(axes, models[index]))))
    return figures


def _panels(count: int, draw: "Callable[[Axes, int], None]", *, legend: bool = False) -> "Figure":
    across = min(count, MOST_ACROSS)
    down = -(-count // across)
    figure = new_figure(PANEL[0] * across + (0.6 if count == 1 else 0), PANEL[1] * down + 0.4)
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        for index in range(count):
            draw(figure.add_subplot(down, across, index + 1), index)
        if legend:
            named: dict[str, Any] = {}
            for axes in figure.axes:
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                    named.setdefault(label, handle)
            figure.legend(
                list(named.values()), list(named), loc="outside lower center", ncols=min(len(named), 2 * across)
            )
    return figure


def _curves(axes: "Axes", measure: Facts, lines: Sequence[Line], kbps: Sequence[float]) -> None:
    axis = value_axis(lines)
    for line in lines:
        label = plain(line.system.get("label") or line.system["name"])
        style, colour = "--" if line.look.dashed else "-", line.look.light
        if line.spots:
            x, y = [spot.kbps or 0.0 for spot in line.spots], [spot.mean for spot in line.spots]
            ends = [
                (
                    spot.mean - spot.found["low"] if is_number(spot.found.get("low")) else 0.0,
                    spot.found["high"] - spot.mean if is_number(spot.found.get("high")) else 0.0,
                )
                for spot in line.spots
            ]
            # an interval of a skewed statistic may leave its mean outside, by rounding, and a negative bar is an error
            errors = [[max(low, 0.0) for low, _ in ends], [max(high, 0.0) for _, high in ends]]
            marker = SHAPES[line.look.marker]
            axes.errorbar(
                x,
                y,
                yerr=errors,
                linestyle=style,
                marker=marker,
                markersize=4.5,
                color=colour,
                label=label,
                capsize=2,
            )
        for spot in line.bounds:
            if axis.low <= spot.mean <= axis.high:
                axes.axhline(spot.mean, linestyle=":", color=colour, linewidth=1.2)
            place = min(max((spot.mean - axis.low) / (axis.high - axis.low), 0.0), 1.0)
            far = "" if axis.low <= spot.mean <= axis.high else " ↑" if spot.mean > axis.high else " ↓"
            setting = spot.point.get("label")
            said = label if setting in (None, "", label) else f"{label}, {plain(setting)}"
            axes.text(
                0.01,
                place,
                f"{said} {spot.mean:.{int(measure.get('decimals', 2))}f}{far}",
                transform=axes.transAxes,
                fontsize=7,
                color=colour,
                va="top" if place > 0.93 else "bottom",
            )
    rates = rate_axis(kbps)
    axes.set_xscale("log")
    axes.set_xlim(10**rates.low, 10**rates.high)
    axes.set_xticks(rate_ticks(rates), [short(value) for value in rate_ticks(rates)])
    axes.set_xticks([], minor=True)
    axes.set_ylim(axis.low, axis.high)
    axes.set_xlabel("kbit/s")
    arrow = "↓" if measure.get("better") == "lower" else "↑"
    unit = f" ({measure['unit']})" if measure.get("unit") else ""
    axes.set_title(plain(f"{measure['label']}{unit} {arrow}"))


def _codebooks(axes: "Axes", system: Facts) -> None:
    from matplotlib import colormaps

    books = system["codebooks"]
    for index, book in enumerate(books):
        if not book.get("counts"):
            continue
        use = sorted_use(book["counts"])
        use[use == 0] = math.nan
        places = [100 * (rank + 0.5) / len(use) for rank in range(len(use))]
        colour = colormaps["viridis"](0.9 * index / max(len(books) - 1, 1))
        axes.plot(places, use, color=colour, linewidth=1.2, label=f"{book.get('codebook', index + 1)}")
    axes.axhline(1.0, linestyle=":", color="#6b7280", linewidth=1)
    axes.set_yscale("log")
    axes.set_yticks([], minor=True)
    axes.set_xlabel("codes, from the most to the least used, %")
    axes.set_ylabel("times even use")
    axes.set_title(plain(system.get("label") or system["name"]))
    axes.legend(title="codebook", fontsize=7, title_fontsize=7, ncols=2)
