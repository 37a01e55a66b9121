"""Measures by a listener of the user's own: a speech recogniser, or an encoder of speakers.

It is a function, or where one is as text, 'package.module:function' or 'path/to/file.py:function', which a process then
loads when it needs it.
"""

import hashlib
import importlib
import importlib.util
import sys
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from vqaudio.evaluation.external import finite, higher
from vqaudio.evaluation.measures import Measure, NotMeasuredError, Value
from vqaudio.evaluation.recordings import file_sha256

Transcribe = Callable[[np.ndarray, int], str]
Embed = Callable[[np.ndarray, int], Any]


def word_error_rate(transcribe: str | Transcribe, *, sample_rate: int | None = 16_000) -> Measure:
    """How many words a recogniser hears otherwise in the output than in the reference, in per cent of the latter's.

    `transcribe(audio, sample_rate)` gives the words of (T,) float32; it is a function or where one is, as for
    `load_callable`, which a process then loads when it needs it. No text is needed: this counts what the codec
    changes and not what the recogniser gets wrong in both. Words are compared as `words` has them. Signals come at
    `sample_rate` in Hz, None: at any.
    """
    return Measure(
        values=(
            Value(
                name="word_error_rate",
                label="WER",
                better="lower",
                decimals=1,
                unit="%",
                note=f"against what {_name_of(transcribe)} hears in the reference; mean over files",
            ),
        ),
        kinds=("speech",),
        sample_rate=sample_rate,
        compute=partial(_word_error_rate, _checked(transcribe)),
        versions={"word_error_rate": _version_of(transcribe)},
    )


def speaker_similarity(embed: str | Embed, *, sample_rate: int | None = 16_000) -> Measure:
    """The cosine between the vectors that a speaker encoder has for output and reference, -1 to 1.

    `embed(audio, sample_rate)` gives a vector, or an array or tensor that is one when flattened, for (T,) float32; see
    `word_error_rate` for the rest.
    """
    return Measure(
        values=(higher("speaker_similarity", "Speaker similarity", 3, f"cosine of {_name_of(embed)}"),),
        kinds=("speech",),
        sample_rate=sample_rate,
        compute=partial(_speaker_similarity, _checked(embed)),
        versions={"speaker_similarity": _version_of(embed)},
    )


def _word_error_rate(
    transcribe: str | Transcribe, estimate: np.ndarray, reference: np.ndarray, sample_rate: int
) -> dict[str, float]:
    heard = [_heard(transcribe, signal, sample_rate) for signal in (reference, estimate)]
    for text in heard:
        if not isinstance(text, str):
            raise NotMeasuredError(f"{_name_of(transcribe)} gave {type(text).__name__}, and a str was expected")
    wanted, found = (words(text) for text in heard)
    if not wanted:
        raise NotMeasuredError(f"{_name_of(transcribe)} hears no word in the reference")
    return {"word_error_rate": 100.0 * edit_distance(wanted, found) / len(wanted)}


def _speaker_similarity(
    embed: str | Embed, estimate: np.ndarray, reference: np.ndarray, sample_rate: int
) -> dict[str, float]:
    vectors = [_heard(embed, signal, sample_rate) for signal in (reference, estimate)]
    try:
        one, other = (np.asarray(vector, dtype=np.float64).ravel() for vector in vectors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotMeasuredError(f"{_name_of(embed)} gave no vector of numbers: {error}") from error
    if one.shape != other.shape:
        raise NotMeasuredError(f"{_name_of(embed)} gave vectors of {len(one)} and {len(other)} numbers")
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    if length == 0.0:
        raise NotMeasuredError(f"{_name_of(embed)} gave a vector of zeros, which has no direction")
    return finite({"speaker_similarity": float(one @ other) / length})


def _heard(source: str | Callable[[np.ndarray, int], Any], signal: np.ndarray, sample_rate: int) -> Any:
    return _heard_in_bytes(source, np.ascontiguousarray(signal, dtype=np.float32).tobytes(), sample_rate)


@lru_cache(maxsize=2)  # all points of a recording are compared to the same reference, which is heard first
def _heard_in_bytes(source: str | Callable[[np.ndarray, int], Any], samples: bytes, sample_rate: int) -> Any:
    """What the user's function makes of float32 samples. Whatever it raises is a reason not to measure."""
    try:
        function = load_callable(source) if isinstance(source, str) else source
        return function(np.frombuffer(samples, np.float32).copy(), sample_rate)
    except Exception as error:  # of code that is not ours
        raise NotMeasuredError(f"{_name_of(source)} failed: {type(error).__name__}: {error}") from error


def _name_of(source: Any) -> str:
    return source if isinstance(source, str) else getattr(source, "__qualname__", type(source).__name__)


def _version_of(source: Any) -> str:
    """The name, and of a file its hash, so that values of another listener are not taken for those of this one."""
    name = _name_of(source)
    file = Path(name.rpartition(":")[0])
    return f"{name} {file_sha256(file)[:16]}" if isinstance(source, str) and file.is_file() else name


def words(text: str) -> list[str]:
    """Lower case, without punctuation other than apostrophes inside words; any space parts words.

    A language that is written without spaces has to be given with some, such as between characters.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(letter if letter == "'" or unicodedata.category(letter)[0] in "LMN" else " " for letter in text)
    return [word for word in (part.strip("'") for part in kept.split()) if word]


def edit_distance(one: list[str], other: list[str]) -> int:
    """The fewest words to insert, delete or replace that turn one list into the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, start=1):
        diagonal, row[0] = row[0], number
        for column, another in enumerate(other, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != another)),
            )
    return row[-1]


def _checked(source: Any) -> Any:
    """A text is looked at now, without running any of the user's code, so that a slip does not cost an evaluation."""
    if isinstance(source, str):
        _place_of(source)
    elif not callable(source):
        raise ValueError(f"{source!r} is no function and does not say where one is, as 'package.module:function' does")
    return source


def _place_of(text: str) -> tuple[str, str]:
    """'module:function' or 'file.py:function' -> both, if there is such a module or file."""
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ValueError(
            f"{text!r} does not say where a function is; write package.module:function or path/to/file.py:function"
        )
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise ValueError(f"{text!r}: there is no file {place}, seen from {Path.cwd()}")
        return place, name
    try:
        found = importlib.util.find_spec(place) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ValueError(f"{text!r}: no module {place!r} is installed; for a file, write path/to/file.py:{name}")
    return place, name


@lru_cache(maxsize=16)
def load_callable(text: str) -> Callable[..., Any]:
    """The function at 'package.module:function' or 'path/to/file.py:function'; its module or file is run once.

    A file may import its neighbours, as a script may. ValueError says what is not there; what the user's own code
    raises while it is run is let through.
    """
    place, name = _place_of(text)
    module = _module_of_file(Path(place).resolve()) if place.endswith(".py") else importlib.import_module(place)
    function = getattr(module, name, None)
    if function is None:
        raise ValueError(f"{text!r}: {place} has no {name!r}")
    if not callable(function):
        raise ValueError(f"{text!r}: {name} in {place} is {type(function).__name__} and not a function")
    return cast(Callable[..., Any], function)


@lru_cache(maxsize=16)
def _module_of_file(path: Path) -> Any:
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"  # no name of an installed module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up their own module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module
