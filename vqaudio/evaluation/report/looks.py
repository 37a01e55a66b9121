"""One colour and one marker for each system, the same in every chart, table, player and figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vqaudio.evaluation.report.folder import Facts

Marker = Literal["circle", "square", "diamond", "triangle"]

# Okabe and Ito's colours (jfly.uni-koeln.de/color), which stay apart for those who see fewer, darkened for white paper
# and lightened for a dark page; yellow, which paper swallows, comes last.
COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff8f4a"),
    ("#00855f", "#2fcf9f"),
    ("#b0508c", "#ec9ac6"),
    ("#8a6d00", "#f0d442"),
    ("#5b4fc7", "#a9a0ff"),
    ("#7a4a2b", "#d3a27c"),
    ("#4d7d1a", "#a5d65c"),
)
BOUND = ("#6b7280", "#9aa3af")  # bounds are no competitors: grey, told apart by their labels
MARKERS: tuple[Marker, ...] = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Look:
    index: int  # of the system
    light: str
    dark: str
    marker: Marker
    dashed: bool  # all but models

    @property
    def colour(self) -> str:
        """A variable of the style sheet, which knows whether the page is light or dark."""
        return f"var(--s{self.index})"


def looks_of(systems: Sequence[Facts]) -> dict[str, Look]:
    """By name. Models come first, so that adding a codec to an evaluation leaves their colours."""
    rank = {"model": 0, "codec": 1, "bound": 2}
    order = sorted(range(len(systems)), key=lambda index: (rank.get(systems[index].get("kind", ""), 1), index))
    looks = {}
    for place, index in enumerate(order):
        system = systems[index]
        light, dark = BOUND if system.get("kind") == "bound" else COLOURS[place % len(COLOURS)]
        # past the last colour, the markers still tell two systems of one colour apart
        marker = MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
        looks[system["name"]] = Look(index, light, dark, marker, dashed=system.get("kind") != "model")
    return looks


def style_of(looks: dict[str, Look]) -> str:
    """The variables, for light and for dark."""
    light = "".join(f"--s{look.index}:{look.light};" for look in looks.values())
    dark = "".join(f"--s{look.index}:{look.dark};" for look in looks.values())
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def swatch(look: Look, said: str = "") -> str:
    """The marker as it is in the charts."""
    return f'<i class="mark {look.marker}" style="--c:{look.colour}"{said}></i>'
