"""Speed and memory beside the peers: python benchmarks/speed.py [--quick] [--out benchmarks/speed.json]

    python3 -m venv .venv-bench && . .venv-bench/bin/activate
    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/speed.py

In an environment of its own, since descript-audiotools wants a protobuf older than 3.20. peers.py says what the systems
are; one whose package is missing has a row that says so. The machine should have nothing else to do. Prints Markdown
tables and writes `speed.json` and `speed.png`; `--redraw` makes tables and plot again from the JSON.

    memory     peak of one encode and one decode, each in a fresh process, above the level once all is imported, the
               model loaded and the input made
    rates      times real time in memory, of the same speech resampled beforehand to the rate of each: the best of
               rounds in which all systems take turns, so that other work hits none of them alone
    files      `vqaudio encode` and `decode` in a warm process, over a folder of 10 s FLAC files; and each in a fresh
               process on recordings of one and three hours, with the peak above `import torch`
    streaming  frame by frame on one thread: how long each push takes, beside Mimi's
    cold       `vqaudio encode` of a 10 s file in a fresh process, wall time to its exit, beside importing torch alone

A peer is left out at a length where encoding and decoding once on one thread would take longer than `--patience`, going
by its pace at the length before; its row says how long it would take, and how much memory. Memory needs Linux.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from common import machine, note, random_codec, real_speech, taken, times, usable_cores, versions, write_results
from peers import PEERS, Live, System, build, build_live
from resident import level_kilobytes, peak_megabytes
from speed_files import cold_start, from_files
from speed_report import draw, tables

from vqaudio import AudioTokenizer, save_codec
from vqaudio.models import CodecConfig
from vqaudio.shipped import shipped_models

PARTS = ("memory", "rates", "files", "streaming", "cold")
OUR_MODELS = ("speech-16k", "speech-16k-live")  # those of them that ship
WARM_SECONDS = 1.0
OPERATIONS = ("encode", "decode")


@dataclass(frozen=True)
class Settings:
    """Of a run; written into its results."""

    lengths: tuple[float, ...] = (10.0, 60.0, 3600.0)  # of the audio in memory, seconds
    rounds: int = 3  # at lengths up to 10 s; longer turns average by themselves and have one
    threads: tuple[int, ...] = (1, 2) if usable_cores() > 1 else (1,)
    patience: float = 90.0  # with a peer, seconds
    num_files: int = 60  # of 10 s
    hours: tuple[float, ...] = (1.0, 3.0)  # of the long recordings
    stream_seconds: float = 6.0
    parts: tuple[str, ...] = PARTS

    def rounds_at(self, seconds: float) -> int:
        return self.rounds if seconds <= 10 else 1


QUICK = Settings(lengths=(2.0, 4.0), rounds=1, num_files=3, hours=(0.01, 0.02), stream_seconds=2.0)


# ---- the systems


def describe(keys: Sequence[str]) -> tuple[dict[str, System], list[dict[str, Any]]]:
    """Those that can be built, by key; and an entry for each, also for those that cannot, with the reason."""
    systems, entries = {}, []
    for key in keys:
        entry: dict[str, Any] = {"system": key, "name": name_of(key), "ours": key not in PEERS}
        try:
            system = build(key)
        except Exception as error:  # whatever is wrong with a peer's packages costs its own rows only
            if key not in PEERS:
                raise
            entry["not_measured"] = f"{PEERS[key].package}: {str(error).splitlines()[0]}"
        else:
            systems[key] = system
            entry |= {
                "sample_rate": system.sample_rate,
                "parameters": system.parameters,
                "bitrate": system.bitrate,
            }
        entries.append(entry)
    return systems, entries


def name_of(key: str) -> str:
    return PEERS[key].name if key in PEERS else f"vqaudio {AudioTokenizer.from_pretrained(key).info.name}"


def peer_versions(keys: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in {PEERS[key].package: None for key in keys if key in PEERS}:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


# ---- rates


def pace(system: System) -> float:
    """Seconds of encoding and decoding, for each second of audio, on one thread; leaves the system warm."""
    torch.set_num_threads(1)
    audio = real_speech(WARM_SECONDS, system.sample_rate)
    for _ in range(2):  # TorchScript, which DAC and SNAC use, compiles in the first
        encoding, codes = taken(system.encode, audio)
        decoding, _ = taken(system.decode, codes)
    return (encoding + decoding) / WARM_SECONDS


def rates(systems: dict[str, System], *, seconds: float, rounds: int, threads: Sequence[int]) -> list[dict[str, Any]]:
    """An entry for each system and number of threads."""
    audio = {key: real_speech(seconds, system.sample_rate) for key, system in systems.items()}
    best: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for number in threads:
            torch.set_num_threads(number)
            for key, system in systems.items():
                encoding, codes = taken(system.encode, audio[key])
                decoding, _ = taken(system.decode, codes)
                both = [encoding, decoding]
                best[key, number] = [min(pair) for pair in zip(best.get((key, number), both), both, strict=True)]
    return [
        {
            "seconds": seconds,
            "system": key,
            "threads": number,
            "encode_times_real_time": times(seconds, encoding),
            "decode_times_real_time": times(seconds, decoding),
        }
        for (key, number), (encoding, decoding) in best.items()
    ]


# ---- memory


def own_peak(key: str, operation: str, seconds: float, threads: int) -> float:
    """Of one operation in this process, which was started for it."""
    torch.set_num_threads(threads)
    system = build(key)
    function: Callable[[Any], Any] = system.encode if operation == "encode" else system.decode
    argument: Any = real_speech(seconds, system.sample_rate)
    if operation == "decode":  # random ones, since encoding would leave memory behind that decoding takes up again
        argument = system.random_codes(len(argument))
    level = level_kilobytes()
    function(argument)
    return peak_megabytes(level)


def memory(keys: Sequence[str], *, seconds: float, threads: int) -> list[dict[str, Any]]:
    entries = []
    for key in keys:
        entry: dict[str, Any] = {"seconds": seconds, "system": key, "threads": threads}
        for operation in OPERATIONS:
            request = json.dumps([key, operation, seconds, threads])
            found = subprocess.run([sys.executable, __file__, "--own-peak", request], stdout=subprocess.PIPE)
            if found.returncode:  # such as -9, killed for its memory
                entry[f"{operation}_not_measured"] = f"the process ended with status {found.returncode}"
            else:
                entry[f"{operation}_peak_mb"] = float(found.stdout)
        entries.append(entry)
    return entries


# ---- in memory: rates and memory at each length


def in_memory(systems: dict[str, System], settings: Settings) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {"rates": [], "memory": [], "left_out": []}
    paces = {key: pace(system) for key, system in systems.items()}
    for seconds in sorted(settings.lengths):
        in_time = {
            key: system
            for key, system in systems.items()
            if key not in PEERS or paces[key] * seconds <= settings.patience
        }
        for key in systems:
            if key not in in_time:
                reason = reason_for(paces[key] * seconds, expected_megabytes(found["memory"], key, seconds))
                found["left_out"].append({"seconds": seconds, "system": key, "not_measured": reason})
        if "memory" in settings.parts:
            found["memory"] += memory(list(in_time), seconds=seconds, threads=max(settings.threads))
        if "rates" in settings.parts:
            now = rates(in_time, seconds=seconds, rounds=settings.rounds_at(seconds), threads=settings.threads)
            paces |= {
                entry["system"]: sum(1 / entry[f"{operation}_times_real_time"] for operation in OPERATIONS)
                for entry in now
                if entry["threads"] == min(settings.threads)
            }
            found["rates"] += now
        note(f"{seconds:g} s of audio in memory")
    return found


def expected_megabytes(entries: list[dict[str, Any]], key: str, seconds: float) -> float | None:
    """In one pass, memory grows with the length: from the longest that was measured."""
    measured = [
        max(entry[f"{operation}_peak_mb"] for operation in OPERATIONS) * seconds / entry["seconds"]
        for entry in entries
        if entry["system"] == key and all(f"{operation}_peak_mb" in entry for operation in OPERATIONS)
    ]
    return measured[-1] if measured else None


def reason_for(seconds: float, megabytes: float | None) -> str:
    taking = f"would take {seconds / 60:.0f} minutes" if seconds >= 120 else f"would take {seconds:.0f} s"
    return taking if megabytes is None else f"{taking} and {megabytes / 1000:.0f} GB"


# ---- streaming


def streaming(keys: Sequence[str], *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """The pushes of all rounds together, in which the systems take turns."""
    torch.set_num_threads(1)
    streams = {key: live for key in keys if (live := build_live(key)) is not None}
    found: dict[str, dict[str, list[float]]] = {key: {operation: [] for operation in OPERATIONS} for key in streams}
    for _ in range(rounds):
        for key, live in streams.items():
            audio = real_speech(seconds, live.sample_rate)
            frames = list(audio[: len(audio) // live.frame_samples * live.frame_samples].split(live.frame_samples))
            found[key]["encode"] += pushes(live.encoder(), frames)
            found[key]["decode"] += pushes(live.decoder(), live.codes(audio))
    return [streaming_entry(key, streams[key], found[key]) for key in streams]


def pushes(push: Callable[[Any], Any], items: Sequence[Any]) -> list[float]:
    """Wall seconds of each but the first tenth, in which caches fill."""
    return [taken(push, item)[0] for item in items][len(items) // 10 :]


def streaming_entry(key: str, live: Live, seconds: dict[str, list[float]]) -> dict[str, Any]:
    frame = live.frame_samples / live.sample_rate
    entry: dict[str, Any] = {"system": key, "threads": 1, "frame_ms": round(1000 * frame, 3)}
    latencies = {"encode": live.encode_latency_seconds, "decode": live.decode_latency_seconds}
    for operation in OPERATIONS:
        median, high = statistics.median(seconds[operation]), statistics.quantiles(seconds[operation], n=20)[-1]
        entry |= {
            f"{operation}_median_ms": round(1000 * median, 3),
            f"{operation}_p95_ms": round(1000 * high, 3),
            f"{operation}_share_of_frame": round(median / frame, 4),
            f"{operation}_latency_ms": round(1000 * latencies[operation], 3),
        }
    return entry


# ---- all together


def measure(models: Sequence[str], peers: Sequence[str], settings: Settings) -> dict[str, Any]:
    systems, entries = describe([*models, *peers])
    found: dict[str, Any] = {"systems": entries}
    if {"rates", "memory"} & set(settings.parts):
        found |= in_memory(systems, settings)
    if "streaming" in settings.parts:
        found["streaming"] = streaming(list(systems), seconds=settings.stream_seconds, rounds=settings.rounds)
        note("streaming")
    if "files" in settings.parts:
        found["files"] = from_files(
            models[0],
            num_files=settings.num_files,
            hours=settings.hours,
            rounds=settings.rounds,
            threads=settings.threads,
        )
    if "cold" in settings.parts:
        found["cold_start"] = cold_start(models[0], rounds=settings.rounds)
        note("cold start")
    return found


@contextlib.contextmanager
def chosen_models(arguments: argparse.Namespace) -> Iterator[list[str]]:
    if not arguments.random:
        yield arguments.models
        return
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "random")
        save_codec(random_codec(CodecConfig()), model, name="random-weights", about={}, card="Never trained.\n")
        yield [model]


def chosen_settings(arguments: argparse.Namespace) -> Settings:
    """The defaults, or the quick ones, with what was asked for besides."""
    settings = QUICK if arguments.quick else Settings()
    given = {name: getattr(arguments, name) for name in vars(settings)}
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value is not None
    }
    return replace(settings, **chosen)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed and memory beside the peers.")
    shipped = [name for name in OUR_MODELS if name in shipped_models()]
    parser.add_argument("--models", nargs="+", default=shipped, help="ours, by name or folder; default: %(default)s")
    parser.add_argument("--random", action="store_true", help="the default architecture with random weights instead")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="default: all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--lengths", type=float, nargs="+", help="of the audio in memory, seconds")
    parser.add_argument("--hours", type=float, nargs="*", help="of the long recordings, hours")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1, and 2 where there are two cores")
    parser.add_argument("--rounds", type=int, help="of lengths up to 10 s")
    parser.add_argument("--patience", type=float, help="the most seconds a peer may take at a length")
    parser.add_argument("--num-files", type=int, help="of 10 s, in the folder")
    parser.add_argument("--stream-seconds", type=float, help="of audio, streamed in each round")
    parser.add_argument("--quick", action="store_true", help="a few seconds of each: whether it works, not how fast")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"), help="the plot lies beside it")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: tables and plot from the file at --out")
    parser.add_argument("--own-peak", help=argparse.SUPPRESS)  # what the fresh processes are started with
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.own_peak is not None:
        print(own_peak(*json.loads(arguments.own_peak)))
        return
    if not arguments.redraw:
        start, settings = time.perf_counter(), chosen_settings(arguments)
        with chosen_models(arguments) as models:
            results = {
                "settings": vars(settings),
                "machine": machine(),
                "versions": versions() | peer_versions(arguments.peers),
                **measure(models, arguments.peers, settings),
                "minutes": round((time.perf_counter() - start) / 60, 1),
            }
        write_results(arguments.out, results)
    results = json.loads(arguments.out.read_text(encoding="utf-8"))
    print(tables(results))
    draw(results, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
