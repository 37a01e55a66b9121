"""Tables and words of a run's page."""

import html
import math
from collections.abc import Sequence

from vqaudio.training.charts import VALID, codebook_colour, short
from vqaudio.training.curve import Comparison, label, state
from vqaudio.training.health_rules import CodebookHealth


def codebook_table(healths: Sequence[CodebookHealth]) -> str:
    rows = []
    for index, health in enumerate(healths):
        colour = codebook_colour(index, len(healths)) if len(healths) > 1 else VALID
        share, efficiency = health.perplexity_share if health.size else None, health.efficiency
        width = 100 * min(share or 0.0, 1.0)
        bar = f'<span class="bar"><i style="width:{width:.0f}%;background:{colour}"></i></span>'
        cells = [
            f'<span class="swatch" style="background:{colour}"></span>{index + 1}',
            f"{or_dash(health.used)} of {f'{health.size:,}' if health.size else '?'}",
            f"{bar}{or_dash(health.perplexity)} ({100 * share:.0f} %)"
            if share is not None
            else or_dash(health.perplexity),
            or_dash(health.entropy_bits) + (f" ({100 * efficiency:.0f} %)" if efficiency is not None else ""),
            or_dash(health.residual_energy),
            "–" if health.revived is None else f"{health.revived:.1f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = ("codebook", "codes used", "perplexity", "entropy, bits", "residual energy", "revived in a batch")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f'<table class="facts"><tr>{head}</tr>{"".join(rows)}</table>'


def comparison_table(found: Comparison) -> str:
    colour = "good" if found.verdict == "inside" else "soft" if found.verdict == "nothing compared" else "bad"
    rows = []
    for metric in found.by_family:
        last, worst = metric.points[-1], metric.worst
        cells = [
            f"<td>{escaped(label(metric).replace('si sdr', 'SI-SDR'))}</td>",
            *(f'<td class="number">{text}</td>' for text in (short(last.value), short(last.reference))),
            *(f'<td class="number">{signed(point.excess)}</td>' for point in (last, worst)),
            f"<td>{escaped(state(metric))}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = ("metric", "last value", "reference", "worse by", "at most", "band")
    head = "".join(f"<th{' class=number' if 0 < i < 5 else ''}>{text}</th>" for i, text in enumerate(heads))
    notes = "<br>".join(escaped(line) for line in (found.how, *found.left_out))
    table = f'<table class="facts"><tr>{head}</tr>{"".join(rows)}</table>' if rows else ""
    return (
        f'<div class="panel scroll"><p><span class="pill {colour}">{escaped(found.lines()[0])}</span></p>{table}'
        f'<p class="left-out">{notes}. Of metrics with one value a codebook, the worst codebook is shown.</p></div>'
    )


def escaped(value: object) -> str:
    return html.escape(str(value))


def words(name: str) -> str:
    return name.replace("_", " ").replace("si sdr", "SI-SDR")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def or_dash(value: float | None) -> str:
    return "–" if value is None else short(value)


def signed(part: float) -> str:
    return "∞" if math.isinf(part) else f"{100 * part:+.1f} %"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
