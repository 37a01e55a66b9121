"""The values of every file at every point, as compact JSON that the page's script makes a table of.

    {"columns": [[name, label, higher is better: 0 or 1, decimals, unit, why it may be missing], …],
     "files": [[path, speaker, kind, seconds], …],
     "points": [[name, label, index of the system], …],
     "reasons": ["no voiced frame in common", …],
     "rows": [[point: [[file, kbps, [value or null, …], {column: reason}, problems or 0], …]], …]}

Values keep one digit more than their means are printed with: enough to sort by.
"""

import json

from vqaudio.evaluation.report.folder import Evaluation
from vqaudio.evaluation.report.looks import Look
from vqaudio.evaluation.report.words import is_number
from vqaudio.training.page_tables import escaped


def files_html(evaluation: Evaluation, looks: dict[str, Look]) -> str:
    """Empty text without a single line."""
    if not evaluation.lines:
        return ""
    chosen = _first_shown(evaluation)
    options = "".join(
        f'<option value="{index}"{" selected" if index == chosen else ""}>{escaped(text)}</option>'
        for index, text in enumerate(_labels(evaluation))
    )
    data = json.dumps(table(evaluation, looks), ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # or a file's name could end the script element
    return (
        "<p>Every file at one point; a click on a head sorts, values worst first. A click on a file shows it at every "
        "point.</p>"
        '<div class="panel"><div class="controls">'
        f'<label>system and point <select id="files-point">{options}</select></label>'
        '<label>contains <input id="files-filter" type="search" placeholder="path, speaker or kind"></label>'
        '<output id="files-said" for="files-point files-filter"></output></div>'
        '<div class="scroll"><table class="facts" id="files-table"><thead></thead><tbody></tbody></table></div>'
        '<button type="button" id="files-more" hidden>show all</button>'
        "<noscript><p>This table needs JavaScript; files.jsonl has the same values.</p></noscript></div>"
        f'<script type="application/json" id="files-data">{data}</script>'
    )


def table(evaluation: Evaluation, looks: dict[str, Look]) -> dict[str, list]:
    """As drawn above."""
    measures = evaluation.measures
    columns = [
        [
            measure["name"],
            measure["label"],
            int(measure.get("better") != "lower"),
            int(measure.get("decimals", 2)),
            measure.get("unit", ""),
            f"measured {evaluation.thinned[measure['name']]}" if measure["name"] in evaluation.thinned else "",
        ]
        for measure in measures
    ]
    points = [point["name"] for _, point in evaluation.points()]
    labels = _labels(evaluation)
    files: dict[str, tuple[int, list]] = {}
    reasons: dict[str, int] = {}
    rows: dict[str, list] = {name: [] for name in points}
    for line in evaluation.lines:
        if line["point"] not in rows:
            continue
        path = line["path"]
        facts = [path, line.get("speaker") or "", line.get("kind") or "", _rounded(line.get("seconds"), 2)]
        place = files.setdefault(path, (len(files), facts))[0]
        values, unscored = line.get("values") or {}, line.get("unscored") or {}
        told = {
            index: reasons.setdefault(str(unscored[measure["name"]]), len(reasons))
            for index, measure in enumerate(measures)
            if measure["name"] in unscored
        }
        found = [_rounded(values.get(measure["name"]), int(measure.get("decimals", 2)) + 1) for measure in measures]
        rows[line["point"]].append([place, _rounded(line.get("kbps"), 3), found, told, line.get("problems") or 0])
    system_of = {point["name"]: looks[system["name"]].index for system, point in evaluation.points()}
    return {
        "columns": columns,
        "files": [facts for _, facts in files.values()],
        "points": [[name, label, system_of[name]] for name, label in zip(points, labels, strict=True)],
        "reasons": list(reasons),
        "rows": [rows[name] for name in points],
    }


def _labels(evaluation: Evaluation) -> list[str]:
    labels = []
    for system, point in evaluation.points():
        label, setting = system.get("label") or system["name"], point.get("label") or ""
        labels.append(label if setting in ("", label) else f"{label}, {setting}")
    return labels


def _first_shown(evaluation: Evaluation) -> int:
    """The last point of the first model, which is what an evaluation is made for."""
    models = [
        (system["name"], index)
        for index, (system, _) in enumerate(evaluation.points())
        if system.get("kind") == "model"
    ]
    return max((index for name, index in models if name == models[0][0]), default=0)


def _rounded(value: object, decimals: int) -> float | None:
    return round(float(value), decimals) if is_number(value) else None
