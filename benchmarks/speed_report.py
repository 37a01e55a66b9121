"""What speed.py found, as Markdown tables and as a plot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import markdown_table

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
PLOTTED_SECONDS = 10.0
OURS, OURS_PALE, THEIRS, THEIRS_PALE = "#0b6e99", "#8cc4db", "#6b6b6b", "#c4c4c4"


def counted(number: int, noun: str) -> str:
    return f"{NUMBERS.get(number, number)} {noun}{'s' * (number != 1)}"


def length(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def figure(value: float) -> str:
    """Two digits, or all that stand before the point."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def pair(entry: dict[str, Any], name: str) -> str:
    """The encoder's and the decoder's, such as `encode_peak_mb` and `decode_peak_mb`."""
    return f"{figure(entry[f'encode_{name}'])} / {figure(entry[f'decode_{name}'])}"


def find(entries: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The entry that has these values; empty if there is none."""
    return next((entry for entry in entries if all(entry[key] == value for key, value in wanted.items())), {})


# ---- tables


def tables(results: dict[str, Any]) -> str:
    """Those of the parts that were measured."""
    found = [f"Machine: {results['machine']}. Run of {results['minutes']:g} minutes."]
    if results.get("rates") or results.get("memory"):
        found.append(in_memory_table(results))
    if "files" in results:
        found.append(files_table(results))
    if "streaming" in results:
        found.append(streaming_table(results))
    if "cold_start" in results:
        found.append(cold_start_line(results))
    return "\n\n".join(found)


def in_memory_table(results: dict[str, Any], *, only_measured: bool = False) -> str:
    """Without the column of memory if none was measured; on request without the rows that say why they are empty."""
    threads = results["settings"]["threads"]
    ours = next(entry["system"] for entry in results["systems"] if entry["ours"])
    columns = ["encode / decode", "audio", "kbps"]
    columns += [f"times real time, {counted(number, 'thread')}" for number in threads]
    columns += ["peak memory, MB"] * bool(results["memory"]) + [f"our lead, {counted(max(threads), 'thread')}"]
    rows = in_memory_rows(results, threads, ours)
    return markdown_table(columns, (row for row in rows if not only_measured or "not measured" not in row[3]))


def in_memory_rows(results: dict[str, Any], threads: list[int], ours: str) -> Iterator[list[str]]:
    for seconds in results["settings"]["lengths"]:
        for system in results["systems"]:
            where = {"seconds": seconds, "system": system["system"]}
            reason = system.get("not_measured") or find(results["left_out"], **where).get("not_measured")
            kbps = f"{system['bitrate'] / 1000:.2g}" if "bitrate" in system else "–"
            cells = [system["name"], length(seconds), kbps]
            if reason is not None:
                yield [*cells, f"not measured: {reason}", *["–"] * (len(threads) + bool(results["memory"]))]
                continue
            each = [find(results["rates"], **where, threads=number) for number in threads]
            cells += [pair(entry, "times_real_time") if entry else "–" for entry in each]
            cells += [memory_cell(find(results["memory"], **where))] if results["memory"] else []
            yield [*cells, lead(results, each[-1], ours)]


def memory_cell(entry: dict[str, Any]) -> str:
    failures = [entry[key] for key in ("encode_not_measured", "decode_not_measured") if key in entry]
    if failures:
        return f"not measured: {failures[0]}"
    return f"{entry['encode_peak_mb']:.0f} / {entry['decode_peak_mb']:.0f}" if entry else "–"


def lead(results: dict[str, Any], entry: dict[str, Any], ours: str) -> str:
    """How many times as fast the first of our models is."""
    if not entry or entry["system"] == ours:
        return "–"
    best = find(results["rates"], seconds=entry["seconds"], threads=entry["threads"], system=ours)
    if not best:
        return "–"
    keys = ("encode_times_real_time", "decode_times_real_time")
    return " / ".join(f"{figure(best[key] / entry[key])} ×" for key in keys)


def files_table(results: dict[str, Any]) -> str:
    files = results["files"]
    columns = ["`vqaudio encode` / `decode`", "workers", "times real time"]
    columns += ["peak above `import torch`, MB"] * bool(files["long"])
    rows = [
        [
            f"{entry['files']} FLAC files of 10 s, warm process",
            entry["threads"],
            pair(entry, "times_real_time"),
            *["–"] * bool(files["long"]),
        ]
        for entry in files["folder"]
    ]
    rows += [
        [
            f"one FLAC file of {entry['hours']:g} h, new process",
            entry["threads"],
            pair(entry, "times_real_time"),
            pair(entry, "peak_mb"),
        ]
        for entry in files["long"]
    ]
    return markdown_table(columns, rows)


def cold_start_line(results: dict[str, Any]) -> str:
    cold = results["cold_start"]
    return (
        f"`vqaudio encode` of a 10 s file, cold: {cold['vqaudio_encode_seconds']} s; "
        f"`import torch` alone: {cold['import_torch_seconds']} s"
    )


def streaming_table(results: dict[str, Any]) -> str:
    columns = ["encode / decode, one thread", "frame, ms", "median, ms", "95th percentile, ms"]
    columns += ["median, % of the frame", "latency, ms", "latency of both together, ms"]
    rows = []
    for entry in results["streaming"]:
        shares = [f"{100 * entry[f'{operation}_share_of_frame']:.0f}" for operation in ("encode", "decode")]
        latencies = [entry["encode_latency_ms"], entry["decode_latency_ms"]]
        rows.append(
            [
                find(results["systems"], system=entry["system"])["name"],
                f"{entry['frame_ms']:g}",
                " / ".join(f"{entry[f'{operation}_median_ms']:.1f}" for operation in ("encode", "decode")),
                " / ".join(f"{entry[f'{operation}_p95_ms']:.1f}" for operation in ("encode", "decode")),
                " / ".join(shares),
                " / ".join(f"{latency:g}" for latency in latencies),
                f"{sum(latencies) - entry['frame_ms']:g}",  # the frame that both wait for passes once
            ]
        )
    return markdown_table(columns, rows)


# ---- the plot


def draw(results: dict[str, Any], path: Path) -> None:
    """Times real time of each system at 10 s, or else the shortest length, as bars from 1; no plot without rates."""
    if not results.get("rates"):
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lengths = results["settings"]["lengths"]
    seconds = PLOTTED_SECONDS if PLOTTED_SECONDS in lengths else min(lengths)
    systems = [each for each in results["systems"] if find(results["rates"], seconds=seconds, system=each["system"])]
    figure_, both_axes = pyplot.subplots(1, 2, figsize=(9, 1.4 + 0.55 * len(systems)), sharey=True, sharex=True)
    for axes, operation in zip(both_axes, ("encode", "decode"), strict=True):
        draw_bars(axes, results, systems, seconds, operation)
    shown = [entry for entry in results["rates"] if entry["seconds"] == seconds]
    values = [entry[f"{operation}_times_real_time"] for entry in shown for operation in ("encode", "decode")]
    both_axes[0].set_xlim(min(0.5, 0.4 * min(values)), 4 * max(values))  # with room for the labels
    both_axes[0].invert_yaxis()
    figure_.supxlabel("times real time", fontsize=10)
    figure_.suptitle(f"{length(seconds)} of speech on {results['machine']}", fontsize=11)
    figure_.tight_layout()
    figure_.savefig(path, dpi=150)
    pyplot.close(figure_)


def draw_bars(axes: Any, results: dict[str, Any], systems: list[Any], seconds: float, operation: str) -> None:
    threads = results["settings"]["threads"]
    height = 0.8 / len(threads)
    for row, system in enumerate(systems):
        for place, number in enumerate(sorted(threads)):
            entry = find(results["rates"], seconds=seconds, system=system["system"], threads=number)
            value = entry[f"{operation}_times_real_time"]
            dark = number == max(threads)
            colour = (OURS if dark else OURS_PALE) if system["ours"] else (THEIRS if dark else THEIRS_PALE)
            y = row + (place - (len(threads) - 1) / 2) * height
            axes.barh(y, value - 1, 0.92 * height, left=1, color=colour)
            label = figure(value) + (f"  {counted(number, 'thread')}" if row == 0 else "")
            side, offset = ("left", 4) if value >= 1 else ("right", -4)
            axes.annotate(label, (value, y), (offset, 0), textcoords="offset points", ha=side, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(systems)), [system["name"] for system in systems])
    axes.set_title(operation, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter("{x:g}")
