"""Numbers, dates and rates as they are written in a report."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from vqaudio.training.charts import short
from vqaudio.training.page_tables import escaped

DASH = "–"


def number(value: Any, decimals: int) -> str:
    """A value with its measure's decimals; a dash for what is none."""
    if not is_number(value):
        return DASH
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def with_interval(found: Mapping[str, Any], decimals: int) -> str:
    """1.75 [1.72, 1.78], or the mean alone where there are too few files for an interval."""
    mean = number(found.get("mean"), decimals)
    low, high = found.get("low"), found.get("high")
    return f"{mean} [{number(low, decimals)}, {number(high, decimals)}]" if is_number(low) and is_number(high) else mean


def rate(kbps: Any) -> str:
    """kbit/s with three digits that count."""
    if not is_number(kbps):
        return DASH
    return f"{kbps:.2f}" if kbps < 10 else f"{kbps:.1f}" if kbps < 100 else f"{kbps:,.0f}"


def is_number(value: object) -> TypeGuard[float]:
    """A finite one; JSON of others may hold NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def date(text: Any) -> str:
    """2026-11-26T01:00:00Z -> 26 November 2026, 01:00 UTC; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def spoken(value: Any) -> str:
    """A setting in words: yes and no, lists with commas, mappings as name: value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {spoken(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(spoken(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    return short(value) if isinstance(value, float) and math.isfinite(value) else str(value)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def better(measure: Mapping[str, Any]) -> str:
    return f"{measure.get('better', 'higher')} is better"


def with_unit(measure: Mapping[str, Any]) -> str:
    """The label of a measure and its unit, escaped."""
    unit = f' <span class="unit">{escaped(measure["unit"])}</span>' if measure.get("unit") else ""
    return escaped(measure["label"]) + unit
