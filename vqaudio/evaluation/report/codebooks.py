"""How the models use their codebooks: a table, and how often each code came, from the most to the least used."""

import math
from collections.abc import Sequence

import numpy as np

from vqaudio.evaluation.report.folder import Evaluation, Facts
from vqaudio.evaluation.report.looks import Look, swatch
from vqaudio.evaluation.report.words import DASH, is_number, plural, rate
from vqaudio.training.charts import SIZE, Axis, codebook_colour, short
from vqaudio.training.page_tables import escaped

POINTS = 160  # of a drawn line
LEAST, MOST = 0.02, 50.0  # of even use: the range of the charts


def codebooks_html(evaluation: Evaluation, looks: dict[str, Look]) -> str:
    models = [system for system in evaluation.systems if system.get("codebooks")]
    if not models:
        return ""
    intro = (
        "Over all files. Perplexity is the number of codes that, used alike, would say as much; the effective bit rate "
        "is entropy times frames a second. The curves order the codes of each codebook from the most to the least "
        "used: a level line at 1 is even use, and where a line ends the codes were never seen."
    )
    return f"<p>{intro}</p>" + "".join(_model_html(system, looks[system["name"]]) for system in models)


def sorted_use(counts: Sequence[int]) -> np.ndarray:
    """Counts of the codes -> how often each came, relative to even use, the most used first; zeros stay."""
    found = np.sort(np.asarray(counts, dtype=np.float64))[::-1]
    total = found.sum()
    return found * len(found) / total if total > 0 else found


def frames_per_second(system: Facts) -> float | None:
    """From any point: the tokens of a second, of those codebooks that it uses."""
    for point in system.get("points") or []:
        tokens, books = point.get("tokens_per_second"), point.get("codebooks")
        if is_number(tokens) and is_number(books) and books:
            return tokens / books
    return None


# ---- pieces


def _model_html(system: Facts, look: Look) -> str:
    books = system["codebooks"]
    frame_rate = frames_per_second(system)
    title = f"<h3>{swatch(look)}{escaped(system.get('label') or system['name'])}{_in_all(books, frame_rate)}</h3>"
    rows = "".join(_row(book, index, len(books), frame_rate) for index, book in enumerate(books))
    heads = ("codebook", "codes used", "perplexity", "entropy", "effective", "use of its codes, sorted")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    table = f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    panel = f'<div class="panel scroll">{table}</div>'
    return f'<div class="model">{title}<div class="books">{panel}{_chart(system, books)}</div></div>'


def _in_all(books: Sequence[Facts], frame_rate: float | None) -> str:
    bits = [book.get("entropy_bits") for book in books]
    known = [float(value) for value in bits if is_number(value)]
    if frame_rate is None or len(known) < len(books):
        return ""
    full = sum(math.log2(book["size"]) for book in books) * frame_rate / 1000
    used = sum(known) * frame_rate / 1000
    said = f"{plural(len(books), 'codebook')}, {rate(used)} of {rate(full)} kbit/s carried ({100 * used / full:.0f} %)"
    return f' <span class="unit">{said}</span>'


def _row(book: Facts, index: int, count: int, frame_rate: float | None) -> str:
    size, colour = int(book["size"]), codebook_colour(index, count)
    perplexity, bits = book.get("perplexity"), book.get("entropy_bits")
    share = perplexity / size if is_number(perplexity) else None
    bar = f'<span class="bar"><i style="width:{100 * min(share or 0.0, 1.0):.0f}%;background:{colour}"></i></span>'
    whole = math.log2(size) if size > 1 else 0.0
    used = f"{book['used']:,}" if is_number(book.get("used")) else "?"
    cells = [
        f'<span class="swatch" style="background:{colour}"></span>{escaped(book.get("codebook", index + 1))}',
        f"{used} of {size:,}",
        f"{bar}{short(perplexity)} ({100 * share:.0f} %)" if share is not None and is_number(perplexity) else DASH,
        f"{bits:.2f} of {whole:g} bits" if is_number(bits) else DASH,
        f"{rate(bits * frame_rate / 1000)} kbit/s" if is_number(bits) and frame_rate is not None else DASH,
        _small(book.get("counts"), colour),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _small(counts: Sequence[int] | None, colour: str) -> str:
    """The sorted use as a small area, logarithmic between LEAST and MOST; the line across is even use."""
    if not counts or not sum(counts):
        return DASH
    path = _path(sorted_use(counts), 100.0, 30.0)
    seen = 100 * sum(1 for count in counts if count) / len(counts)
    area = f"{path}V30H0Z"
    return (
        '<svg class="use" viewBox="0 0 100 30" preserveAspectRatio="none" role="img" '
        f'aria-label="{seen:.0f} % of the codes were seen"><path d="{area}" style="fill:{colour}"/>'
        '<path class="even" d="M0 15H100"/></svg>'
    )


def _chart(system: Facts, books: Sequence[Facts]) -> str:
    """The same curves over each other, with numbers on the axes."""
    lines = "".join(
        f'<path class="line" stroke="{codebook_colour(index, len(books))}" '
        f'd="{_path(sorted_use(book["counts"]), float(SIZE), float(SIZE))}"/>'
        for index, book in enumerate(books)
        if book.get("counts") and sum(book["counts"])
    )
    if not lines:
        return ""
    rows = [(value, 100 * (1 - _height(value))) for value in (0.1, 1.0, 10.0)]
    grid = "".join(f"M0 {10 * y:.1f}H{SIZE}" for _, y in rows)
    left = "".join(f'<span style="top:{y:.1f}%">{short(value)}</span>' for value, y in rows)
    below = "".join(f'<span style="left:{share}%">{share} %</span>' for share in (0, 25, 50, 75))
    chips = "".join(f'<i style="background:{codebook_colour(index, len(books))}"></i>' for index in range(len(books)))
    ends = f'codebook 1 <span class="chips">{chips}</span> {len(books)}' if len(books) > 1 else "codebook 1"
    return (
        f'<figure class="chart use-chart"><figcaption><b>Use of the codes <span class="unit">times even use</span></b>'
        f'<span class="legend">{ends}</span></figcaption><div class="plot"><svg viewBox="0 0 {SIZE} {SIZE}" '
        f'preserveAspectRatio="none" role="img" aria-label="sorted use of the codes of '
        f'{escaped(system.get("label") or system["name"])}"><path class="grid" d="{grid}"/>{lines}</svg>'
        f'<div class="rows">{left}</div><div class="columns">{below}</div></div>'
        '<span class="hint">across: the codes of a codebook, from the most to the least used, in % of its size</span>'
        "</figure>"
    )


def _height(value: float) -> float:
    """0 … 1 on the logarithmic axis."""
    return Axis(math.log10(LEAST), math.log10(MOST), True).place(min(max(value, LEAST), MOST)) / SIZE


def _path(use: np.ndarray, width: float, height: float) -> str:
    """The codes that were seen, thinned; rank n of V lies at (n + ½) / V of the width."""
    seen = int((use > 0).sum())
    kept = np.unique(np.linspace(0, seen - 1, min(seen, POINTS)).round().astype(int))
    first = f"M0 {height * (1 - _height(float(use[0]))):.1f}"
    places = (f"{width * (rank + 0.5) / len(use):.1f} {height * (1 - _height(float(use[rank]))):.1f}" for rank in kept)
    return first + "".join(f"L{place}" for place in places)
