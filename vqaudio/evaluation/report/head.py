"""What was evaluated and how, what went wrong, and what is missing."""

from collections.abc import Iterator, Mapping
from typing import Any

from vqaudio.evaluation.report.folder import FILES_NAME, Evaluation
from vqaudio.evaluation.report.looks import Look, swatch
from vqaudio.evaluation.report.words import date, is_number, plural, spoken
from vqaudio.training.history import flat
from vqaudio.training.page_tables import duration, escaped

MOST_OPEN = 12  # problems that are shown without unfolding


def title_of(evaluation: Evaluation) -> str:
    """By its models, or what else there is, and its data."""
    labels = [_label(system) for system in evaluation.systems if system.get("kind") == "model"]
    labels = labels or [_label(system) for system in evaluation.systems]
    told = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
    data = (evaluation.facts.get("data") or {}).get("name")
    return f"{told or 'Evaluation'} on {data}" if data else told or "Evaluation"


def head_html(evaluation: Evaluation, looks: dict[str, Look]) -> str:
    data = evaluation.facts.get("data") or {}
    about = [f"split {data['split']}"] if data.get("split") else []
    about += [str(data["kind"])] if data.get("kind") else []
    about += [f"scored at {evaluation.facts['rules']['sample_rate']:,} Hz"] if _scoring_rate(evaluation) else []
    about += [date(evaluation.facts["created"])] if evaluation.facts.get("created") else []
    measured = sum(1 for _ in evaluation.points())
    tiles = [
        ("files", spoken(data["files"]) if is_number(data.get("files")) else "–"),
        ("of audio", duration(data["seconds"]) if is_number(data.get("seconds")) else "–"),
        ("speakers", spoken(data["speakers"]) if is_number(data.get("speakers")) and data["speakers"] else "not known"),
        ("systems", str(sum(1 for system in evaluation.systems if system.get("points")))),
        ("points", str(measured)),
        ("measures", str(len(shown_measures(evaluation)))),
    ]
    shown = "".join(f'<div class="tile"><b>{escaped(value)}</b><span>{said}</span></div>' for said, value in tiles)
    names = "".join(
        f"<span>{swatch(looks[system['name']])}{escaped(_label(system))}</span>"
        for system in evaluation.systems
        if system.get("points")
    )
    problems = list(problems_of(evaluation))
    pill = (
        f'<a class="pill bad" href="#problems">{plural(len(problems), "problem")}</a>'
        if problems
        else '<span class="pill good">no problems</span>'
    )
    return (
        f"<h1>{escaped(title_of(evaluation))}</h1>{pill}"
        f'<p class="about">{escaped(", ".join(about))}</p><div class="tiles">{shown}</div>'
        f'<div class="key">{names}</div>'
    )


def shown_measures(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Without those that no system could be measured with, which `missing_html` lists."""
    there = {
        name
        for _, point in evaluation.points()
        for kind in ("values", "unscored")
        for name, found in (point.get(kind) or {}).items()
        if found
    }
    return [
        measure
        for measure in evaluation.facts.get("measures") or []
        if measure["name"] in there or measure["name"] not in evaluation.not_measured
    ]


def problems_of(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """(file, what): those of the evaluation, then those that lines of files hold beyond them, each once."""
    told = set()
    for problem in evaluation.facts.get("problems") or []:
        pair = str(problem.get("path", "")), str(problem.get("what", ""))
        told.add(pair)
        yield pair
    whats = {what for _, what in told}
    for line in evaluation.lines:
        for what in line.get("problems") or []:
            # the evaluation may have said it once for several points, with their names before it
            known = any(path == line["path"] and str(what) in said for path, said in told)
            if not known and (line["path"], f"{line['point']}: {what}") not in told:
                told.add((line["path"], f"{line['point']}: {what}"))
                yield line["path"], f"{line['point']}: {what}"
    if evaluation.num_unreadable and FILES_NAME not in whats:
        yield FILES_NAME, f"{plural(evaluation.num_unreadable, 'line')} could not be read"


def problems_html(evaluation: Evaluation) -> str:
    problems = list(problems_of(evaluation))
    if not problems:
        return ""
    items = [f"<li><code>{escaped(path)}</code> {escaped(what)}</li>" for path, what in problems]
    first, rest = "".join(items[:MOST_OPEN]), "".join(items[MOST_OPEN:])
    more = f"<details><summary>{len(items) - MOST_OPEN} more</summary><ul>{rest}</ul></details>" if rest else ""
    return f'<div class="panel findings"><ul>{first}</ul>{more}</div>'


def missing_html(evaluation: Evaluation) -> str:
    """What was not measured and why: whole systems, whole values, and single files."""
    labels = {measure["name"]: measure["label"] for measure in evaluation.facts.get("measures") or []}
    items = [
        (_label(system), system.get("not_measured") or "it has no points")
        for system in evaluation.systems
        if not system.get("points") or system.get("not_measured")
    ]
    items += [(labels.get(name, name), why) for name, why in evaluation.not_measured.items()]
    rows = [(what, "everywhere", why) for what, why in items]
    rows += [(labels.get(name, name), "most files", f"measured {said}") for name, said in evaluation.thinned.items()]
    where: dict[tuple[str, str], list[str]] = {}
    for _, point in evaluation.points():
        for name, reasons in (point.get("unscored") or {}).items():
            for why, count in reasons.items():
                where.setdefault((name, f"{plural(int(count), 'file')}: {why}"), []).append(point["name"])
    rows += [(labels.get(name, name), ", ".join(points), why) for (name, why), points in where.items()]
    if not rows:
        return ""
    cells = "".join(f"<tr>{''.join(f'<td class=text>{escaped(text)}</td>' for text in row)}</tr>" for row in rows)
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("not measured", "where", "why"))
    return (
        f'<div class="panel scroll"><table class="facts reasons"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{cells}</tbody></table></div>"
    )


def procedure_html(evaluation: Evaluation) -> str:
    """Rules, measures, systems, versions and the machine: what another evaluation must have to be comparable."""
    facts = evaluation.facts
    notes = [(f"{measure['label']}", measure["note"]) for measure in shown_measures(evaluation) if measure.get("note")]
    parts = [
        ("Rules", [(_words(name), spoken(value)) for name, value in (facts.get("rules") or {}).items()]),
        ("Measures", notes),
        ("Versions", [(name, spoken(value)) for name, value in (facts.get("versions") or {}).items()]),
        ("Machine", list(_machine(facts))),
        ("Data", [(_words(name), spoken(value)) for name, value in (facts.get("data") or {}).items()]),
    ]
    for system in evaluation.systems:
        extra = {name: value for name, value in system.items() if name not in _KNOWN and value is not None}
        about = {**(system.get("about") or {}), **extra}
        parts.append((_label(system), [(_words(name), spoken(value)) for name, value in flat(about)]))
    return "".join(_facts(title, rows, is_open=title == "Rules") for title, rows in parts if rows)


_KNOWN = frozenset({"name", "kind", "label", "about", "points", "codebooks", "not_measured"})


def _facts(title: str, rows: list[tuple[str, str]], *, is_open: bool) -> str:
    body = "".join(f"<tr><td>{escaped(name)}</td><td class='text'>{escaped(value)}</td></tr>" for name, value in rows)
    return (
        f'<details class="panel"{" open" if is_open else ""}><summary>{escaped(title)}</summary>'
        f'<table class="facts">{body}</table></details>'
    )


def _machine(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    machine = facts.get("machine")
    if isinstance(machine, Mapping):
        yield from ((_words(name), spoken(value)) for name, value in flat(machine))
    elif machine:
        yield "machine", spoken(machine)
    if is_number(facts.get("seconds")):
        yield "time taken", duration(facts["seconds"])


def _scoring_rate(evaluation: Evaluation) -> bool:
    return is_number((evaluation.facts.get("rules") or {}).get("sample_rate"))


def _label(system: Mapping[str, Any]) -> str:
    return str(system.get("label") or system["name"])


def _words(name: str) -> str:
    return name.replace("_", " ").replace("sha256", "SHA-256")
