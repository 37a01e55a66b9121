"""What a measure is: a name, how to read its values, and a function of two signals. `external` has those of others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["speech", "music"]
Compute = Callable[[np.ndarray, np.ndarray, int], Mapping[str, float]]


class NotMeasuredError(ValueError):
    """A pair of signals that a measure has no value for; the message is the reason, in words."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """How one value is named, read and printed."""

    name: str  # in results: lower case, such as pesq_wb
    label: str  # in tables, such as PESQ-WB
    better: Literal["higher", "lower"]
    decimals: int  # of a mean in a table
    unit: str = ""
    note: str = ""  # what a reader must know, such as ViSQOL's mapper; one sentence


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One or several values that are computed together.

    `compute(estimate, reference, sample_rate)` takes two float32 arrays (T,) of equal length, neither of them digital
    silence, and gives the values by their names; it leaves out none without raising NotMeasuredError.
    """

    values: tuple[Value, ...]
    kinds: tuple[Kind, ...]  # of recordings that it was made for
    sample_rate: int | None  # Hz at which it wants both signals; None: any
    compute: Compute
    missing: str | None = None  # why it cannot run here, and what to install; None: it can
    one_in: int = 1  # it is computed for one recording in so many, chosen by the hash of the recording
    versions: Mapping[str, str] | None = None  # of the packages and weights behind it

    def wants(self, sha256: str) -> bool:
        """Whether the recording of this hash (hex) is among those it is computed for."""
        return int(sha256[:8] or "0", 16) % self.one_in == 0
