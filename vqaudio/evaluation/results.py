"""What an evaluation leaves behind: a folder that says how it was made and from which every figure can be rebuilt.

    evaluation.json    format, rules, data, machine, versions, measures, and for each system its points with means
    files.jsonl        one line per recording and point: every value, or why there is none (or files.jsonl.gz)
    clips/             for the clips of the report: NAME/reference.flac, NAME/POINT.flac, NAME/SYSTEM.vqt

A *system* is a model, another codec or a bound such as resampling; a *point* is one setting of it: a number of
codebooks, a bitrate. `evaluation.json`:

    {"format": "vqaudio-evaluation", "version": 1, "created": "2026-11-26T01:00:00Z",
     "data": {"name", "split", "kind", "files", "seconds", "speakers", "list_sha256"},
     "rules": {"version": 1, "sample_rate": 16000, "resampler", "channels", "pcm", "alignment", "bootstrap", …},
     "machine": "…", "versions": {"vqaudio": "…", "torch": "…", "pesq": "…", …}, "seconds": 1234.5,
     "measures": [{"name", "label", "better": "higher" | "lower", "decimals", "unit", "note"}, …],
     "one_in": {"dnsmos_ovrl": 4},        # values computed for one recording in so many, chosen by its hash
     "not_measured": {"dnsmos_ovrl": "speechmos is not installed: …"},          # of no system, by name of the value
     "systems": [{"name": "speech-16k-v2", "kind": "model" | "codec" | "bound", "label", "about": {…},
                  "points": [{"name": "speech-16k-v2@8", "label": "8 codebooks", "codebooks": 8 | null,
                              "kbps": 4.0 | null, "kbps_by_entropy": 3.61 | null,
                              "tokens_per_second": 400.0 | null,
                              "encode_times_real_time": 93.1 | null, "decode_times_real_time": 80.0 | null,
                              "values": {"pesq_wb": {"mean", "low", "high", "speakers_low", "speakers_high", "files"}},
                              "unscored": {"pesq_wb": {"the reference is silent": 2}}}, …],
                  "codebooks": [{"codebook": 1, "size": 1024, "used": 1010, "perplexity": 700.1, "entropy_bits": 9.4,
                                 "counts": [...]}, …] | null,
                  "not_measured": null | "why this system could not run, and how to install it"}, …],
     "clips": [{"name": "clip-1", "path": "speech/…flac", "speaker", "seconds", "kind"}, …],
     "problems": [{"path", "what", "failed": true if nothing of it was scored}, …]}

A line of `files.jsonl`:

    {"path", "sha256", "speaker", "kind", "seconds", "system": "opus", "point": "opus@12", "kbps": 11.6,
     "values": {"pesq_wb": 3.8, …}, "unscored": {"f0_correlation": "no voiced frame in common"}, "problems": ["…"]}

`low` and `high` are the 95 % bootstrap interval over files, `speakers_low` and `speakers_high` that over speakers
(whole speakers drawn with all their files). A value that could not be computed is left out and its reason kept; it is
never 0. Text is UTF-8. `journal.jsonl` holds the rows while an evaluation goes on, so that a killed one goes on too.
"""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqaudio.io import write_aside

FORMAT, VERSION = "vqaudio-evaluation", 1
SUMMARY_NAME, ROWS_NAME, CLIPS_NAME, JOURNAL_NAME = "evaluation.json", "files.jsonl", "clips", "journal.jsonl"

Row = dict[str, Any]
Summary = dict[str, Any]


class ResultsError(ValueError):
    """Results that cannot be read, or cannot be compared; the message names the file and says why."""


def is_evaluation(folder: str | Path) -> bool:
    """Whether a folder holds a finished evaluation."""
    return (Path(folder) / SUMMARY_NAME).is_file()


def write_results(folder: Path, summary: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Both files, each written aside and renamed, the rows first."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # Lists of numbers on a line of their own: a thousand counts of codes would be a thousand lines.
    text = re.sub(r"\[\n\s+([-\d,\s]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    for name, content in ((ROWS_NAME, "".join(lines)), (SUMMARY_NAME, text)):
        with write_aside(folder / name) as partial:
            # of names that are no UTF-8, the escapes that this writes are those of JSON
            partial.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")


def read_summary(folder: str | Path) -> Summary:
    """`evaluation.json` of a folder. ResultsError for what is not one, or is of a later version."""
    path = Path(folder) / SUMMARY_NAME
    if not path.is_file():
        raise ResultsError(
            f"{folder}: holds no {SUMMARY_NAME}; the folder that `vqaudio evaluate --out` wrote is wanted"
        )
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON ({error})") from error
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        raise ResultsError(f"{path}: is no evaluation; its format would be {FORMAT!r}")
    if summary.get("version") != VERSION:
        raise ResultsError(f"{path}: version {summary.get('version')!r} of the format, and {VERSION} can be read")
    return summary


def read_rows(folder: str | Path) -> list[Row]:
    """`files.jsonl` of a folder, line by line; or `files.jsonl.gz`, as which it may be kept."""
    path = Path(folder) / ROWS_NAME
    if not path.is_file() and (packed := path.with_name(f"{ROWS_NAME}.gz")).is_file():
        path = packed
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="\n") as file:
            return [json.loads(line) for line in file if line.strip()]
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON lines ({error})") from error
