"""Is one model better than another? python benchmarks/compare.py BEFORE.json AFTER.json [--out comparison.json]

Both are results of benchmarks/quality.py on the same files. For every rate that both have, the difference of each
metric, file by file (after - before), its mean and a 95 % percentile bootstrap over files. A difference is settled when
the interval excludes zero; a model may replace another if PESQ-WB, STOI and mel distance are all settled in its favour
at its highest rate.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from common import markdown_table, write_results
from quality import DECIMALS, LABELS, mean_with_interval

LOWER_IS_BETTER = {"mel_distance"}
DECISIVE = ("pesq", "stoi", "mel_distance")


def differences(before: dict[str, Any], after: dict[str, Any], codebooks: str, metric: str) -> list[float]:
    """after - before for every file that both could score."""
    old, new = ({row["path"]: row.get("scores", {}) for row in results["files"]} for results in (before, after))
    if set(old) != set(new):
        only = sorted(set(old) ^ set(new))
        raise ValueError(f"the results are of different files: {len(only)} are in one only, such as {only[0]}")
    pairs = [(old[path].get(codebooks, {}), new[path].get(codebooks, {})) for path in old]
    return [b[metric] - a[metric] for a, b in pairs if metric in a and metric in b]


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    numbers = [[rate["codebooks"] for rate in results["rates"]] for results in (before, after)]
    rates = []
    for number in sorted(set(numbers[0]) & set(numbers[1])):
        entry: dict[str, Any] = {"codebooks": number}
        for metric in LABELS:
            values = differences(before, after, str(number), metric)
            if values:
                entry[metric] = mean_with_interval(values)
        rates.append(entry)
    if not rates:
        raise ValueError("the two models have no number of codebooks in common")
    models = {
        name: {key: results[key] for key in ("model", "model_fingerprint", "token_fingerprint")}
        for name, results in (("before", before), ("after", after))
    }
    return {**models, "rates": rates, "may_replace": all(favours(rates[-1].get(metric), metric) for metric in DECISIVE)}


def favours(difference: dict[str, float] | None, metric: str) -> bool:
    """Whether a difference is settled in favour of the model after."""
    if difference is None:
        return False
    return difference["high"] < 0 if metric in LOWER_IS_BETTER else difference["low"] > 0


def table(comparison: dict[str, Any]) -> str:
    rows = []
    for rate in comparison["rates"]:
        row = [str(rate["codebooks"])]
        for metric in LABELS:
            value, places = rate.get(metric), DECIMALS[metric] + 1
            row.append(
                f"{value['mean']:+.{places}f} [{value['low']:+.{places}f}, {value['high']:+.{places}f}]"
                if value
                else "not measured"
            )
        rows.append(row)
    return markdown_table(["codebooks", *LABELS.values()], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after))
    try:
        comparison = compare(before, after)
    except ValueError as error:
        sys.exit(f"compare.py: {error}")
    print(table(comparison))
    print(f"may replace: {'yes' if comparison['may_replace'] else 'no'}")
    if options.out:
        write_results(options.out, comparison)
    return 0


if __name__ == "__main__":
    sys.exit(main())
