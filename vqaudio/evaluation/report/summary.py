"""All systems, points and values in one table that sorts by any column, with the reason for every gap below it."""

from dataclasses import dataclass, field

from vqaudio.evaluation.report.folder import Evaluation, Facts
from vqaudio.evaluation.report.looks import Look, swatch
from vqaudio.evaluation.report.words import (
    DASH,
    better,
    is_number,
    number,
    plural,
    rate,
    with_interval,
    with_unit,
)
from vqaudio.training.charts import short
from vqaudio.training.page_tables import escaped

NO_REASON = "no value and no reason were recorded"


@dataclass
class Footnotes:
    """Each reason once, numbered as they come."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        place = self.texts.index(text) + 1
        return f'<sup><a href="#note-{place}" title="{escaped(text)}">{place}</a></sup>'

    def html(self) -> str:
        items = "".join(f'<li id="note-{place}">{escaped(text)}</li>' for place, text in enumerate(self.texts, 1))
        return f'<ol class="notes">{items}</ol>' if items else ""


def summary_html(evaluation: Evaluation, looks: dict[str, Look]) -> str:
    notes, measures = Footnotes(), evaluation.measures
    heads = [
        ("system", "", ""),
        ("kbit/s", "number", "bits of the coded form, divided by the duration"),
        ("by entropy", "number", "kbit/s that an ideal code of the tokens' frequencies would take"),
        ("tokens/s", "number", ""),
        ("encoding", "number", "times faster than real time"),
        ("decoding", "number", "times faster than real time"),
        *((with_unit(measure), "number", _explained(measure)) for measure in measures),
    ]
    head = "".join(
        f'<th class="{kind}" scope="col"><button type="button" title="{escaped(said)}">{text}</button></th>'
        for text, kind, said in heads
    )
    rows = []
    for system in evaluation.systems:
        points = system.get("points") or []
        if not points:
            rows.append(_absent_row(system, looks[system["name"]], len(heads) - 1))
        rows += [_row(evaluation, system, point, looks[system["name"]], notes) for point in points]
    intro = (
        "Means over files with their 95 % intervals; click a head to sort. A small number marks values that are "
        "missing, for all files or for some, and leads to the reason."
    )
    return (
        f'<p>{intro}</p><div class="panel scroll"><table class="facts sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{notes.html()}"
    )


def reason(evaluation: Evaluation, point: Facts, name: str) -> str:
    """Why a point has no mean of a value."""
    unscored = (point.get("unscored") or {}).get(name) or {}
    if unscored:
        return _counted(unscored)
    return evaluation.not_measured.get(name) or evaluation.thinned.get(name, NO_REASON)


def _explained(measure: Facts) -> str:
    note = f". {measure['note']}" if measure.get("note") else ""
    return better(measure) + note


def _absent_row(system: Facts, look: Look, width: int) -> str:
    said = system.get("not_measured") or NO_REASON
    return (
        f'<tr class="absent"><th scope="row">{swatch(look)}{escaped(system.get("label") or system["name"])}</th>'
        f'<td class="text" colspan="{width}">not measured: {escaped(said)}</td></tr>'
    )


def _row(evaluation: Evaluation, system: Facts, point: Facts, look: Look, notes: Footnotes) -> str:
    label, setting = system.get("label") or system["name"], point.get("label") or ""
    detail = f"<span>{escaped(setting)}</span>" if setting and setting != label else ""
    cells = [
        _cell(point.get("kbps"), rate(point.get("kbps"))),
        _cell(point.get("kbps_by_entropy"), rate(point.get("kbps_by_entropy"))),
        _cell(point.get("tokens_per_second"), _short(point.get("tokens_per_second"))),
        _cell(point.get("encode_times_real_time"), _times(point.get("encode_times_real_time"))),
        _cell(point.get("decode_times_real_time"), _times(point.get("decode_times_real_time"))),
        *(_value_cell(evaluation, point, measure, notes) for measure in evaluation.measures),
    ]
    return f'<tr><th scope="row">{swatch(look)}{escaped(label)}{detail}</th>{"".join(cells)}</tr>'


def _value_cell(evaluation: Evaluation, point: Facts, measure: Facts, notes: Footnotes) -> str:
    name, decimals = measure["name"], int(measure.get("decimals", 2))
    found = (point.get("values") or {}).get(name) or {}
    unscored = (point.get("unscored") or {}).get(name) or {}
    if not is_number(found.get("mean")):
        why = reason(evaluation, point, name)
        return f'<td class="number missing" title="{escaped(why)}">not measured{notes.mark(why)}</td>'
    told = [_counted(unscored)] if unscored else []
    told += [f"measured {evaluation.thinned[name]}"] if name in evaluation.thinned else []
    mark = "".join(notes.mark(text) for text in told)
    mean, _, interval = with_interval(found, decimals).partition(" ")
    interval = f" <span>{interval}</span>" if interval else ""
    files = f' title="{plural(int(found["files"]), "file")}"' if is_number(found.get("files")) else ""
    return f'<td class="number" data-v="{found["mean"]!r}"{files}>{mean}{mark}{interval}</td>'


def _counted(unscored: dict[str, int]) -> str:
    """{"the reference is silent": 2} -> 2 files: the reference is silent."""
    return "; ".join(f"{plural(int(count), 'file')}: {why}" for why, count in unscored.items())


def _cell(value: object, text: str) -> str:
    return (
        f'<td class="number" data-v="{value!r}">{text}</td>' if is_number(value) else f'<td class="number">{DASH}</td>'
    )


def _short(value: object) -> str:
    return short(value) if is_number(value) else DASH


def _times(value: object) -> str:
    """Past ten, the digits behind the point are the machine's mood."""
    return f"{number(value, 0 if is_number(value) and value >= 10 else 1)} ×" if is_number(value) else DASH
