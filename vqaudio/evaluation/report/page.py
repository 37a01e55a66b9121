"""An evaluation on one page: `report.html`, complete in itself, and its figures as files beside it.

Nothing is fetched from anywhere (a content security policy in the page forbids it), so that the file can be mailed and
opened in years. The same folder gives the same bytes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vqaudio.evaluation.drawing import MatplotlibMissingError
from vqaudio.evaluation.report.clips import clips_html
from vqaudio.evaluation.report.codebooks import codebooks_html
from vqaudio.evaluation.report.curves import curves_html
from vqaudio.evaluation.report.figures import FIGURES_NAME, write_figures
from vqaudio.evaluation.report.files import files_html
from vqaudio.evaluation.report.folder import RESULTS_NAME, Evaluation, read_evaluation
from vqaudio.evaluation.report.head import (
    head_html,
    missing_html,
    problems_html,
    procedure_html,
    shown_measures,
    title_of,
)
from vqaudio.evaluation.report.looks import Look, looks_of, style_of
from vqaudio.evaluation.report.script import SCRIPT
from vqaudio.evaluation.report.style import STYLE
from vqaudio.evaluation.report.summary import summary_html
from vqaudio.io import write_aside
from vqaudio.training.page import POLICY
from vqaudio.training.page_style import STYLE as RUN_STYLE
from vqaudio.training.page_tables import escaped

PAGE_NAME = "report.html"

Section = Callable[[Evaluation, dict[str, Look]], str]
SECTIONS: dict[str, Section] = {
    "Rate and quality": curves_html,
    "Summary": summary_html,
    "Clips": clips_html,
    "Codebooks": codebooks_html,
    "Files": files_html,
    "Problems": lambda evaluation, _: problems_html(evaluation),
    "Not measured": lambda evaluation, _: missing_html(evaluation),
    "Procedure": lambda evaluation, _: procedure_html(evaluation),
}


def write_report(folder: str | Path, *, out: str | Path | None = None, figures: bool = True) -> Path:
    """Write `report.html` into the folder of an evaluation, or to `out`, and `figures/` into the folder.

    The figures want matplotlib; without it the page says that they were left out, and how to get them.
    """
    evaluation = read_evaluation(folder)
    note = ""
    if figures:
        try:
            write_figures(evaluation)
        except MatplotlibMissingError as error:
            note = f"Without {FIGURES_NAME}: {error}."
    path = evaluation.folder / PAGE_NAME if out is None else Path(out)
    text = page_html(evaluation, note=note)
    with write_aside(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def page_html(evaluation: Evaluation, *, note: str = "") -> str:
    looks = looks_of(evaluation.systems)
    shown = replace(evaluation, facts={**evaluation.facts, "measures": shown_measures(evaluation)})
    # what was measured nowhere has no chart and no column, but must be named among what is missing
    bodies = {
        title: section(evaluation if title == "Not measured" else shown, looks) for title, section in SECTIONS.items()
    }
    bodies = {title: body for title, body in bodies.items() if body}
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in bodies)
    sections = "".join(
        f'<section id="{_anchor(title)}"><h2>{title}</h2>{body}</section>\n' for title, body in bodies.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # or browsers ask the server for one
        f"<title>{escaped(title_of(evaluation))}</title><style>{RUN_STYLE}{STYLE}{style_of(looks)}</style></head>\n<body>"
        f"<header>{head_html(evaluation, looks)}</header><nav><div>{links}</div></nav>\n<main>{sections}</main>"
        f"<footer>Made by vqaudio report from {RESULTS_NAME}. {escaped(note)}</footer>\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
