"""Matplotlib, at arm's length: imported when a figure is drawn, without its global state, the same bytes each time."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqaudio.io import write_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
DOTS_PER_INCH = 160
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "vqaudio",  # or every file gets other ids
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e2",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
}


class MatplotlibMissingError(ValueError):
    """Figures were asked for, and the package that draws them is not installed."""


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that lays itself out when it is saved."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MatplotlibMissingError("matplotlib is not installed; pip install 'vqaudio[eval]' brings it") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a PNG or an SVG, by the extension."""
    import matplotlib

    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: a figure is written as {' or '.join(FORMATS)}")
    kind = path.suffix.lower()[1:]
    with warnings.catch_warnings(), matplotlib.rc_context(SETTINGS), write_aside(path) as partial:
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font has not
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out: the next format need not do it again
        stamp: dict[str, None] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(partial, format=kind, dpi=DOTS_PER_INCH, metadata=stamp, facecolor="white")
    return path


def plain(text: object) -> str:
    """A text that matplotlib does not take for mathematics."""
    return str(text).replace("$", r"\$")
