"""Rates and memory beside EnCodec: python benchmarks/speed.py [--random] [--out benchmarks/speed.json]

`speech-16k` through `AudioTokenizer.encode` and `.decode`, in memory, against EnCodec 24 kHz (`encodec` of PyPI, random
weights, 6 kbps: eight codebooks at 75 Hz), on the same real speech, resampled beforehand to the rate of each. Weights
do not change what a codec costs; `--random` takes random ones for ours too.

Times real time: best of rounds in which all systems take turns, so that other work hits none of them alone.

    one thread      torch may use one thread
    two threads     torch may use two; EnCodec does, our engine codes one recording on one thread whatever is set
    two at once     two recordings in two Python threads of one torch thread each; the rate is that of both together

Peak memory: each in a fresh process, resident memory above the level once all is imported and the model loaded (Linux).
Cold start: `vqaudio encode` of a 10 s file in a fresh process, wall time to its exit, beside importing torch alone.
Needs the `[bench]` extra.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import machine, markdown_table, random_codec, real_speech, usable_cores, versions, write_results
from torch import Tensor

from vqaudio import AudioTokenizer, Codes, save_codec, write_audio
from vqaudio.models import CodecConfig

OURS, PEER = "vqaudio", "EnCodec 24 kHz"
ENCODE_FROM_COMMAND_LINE = "import sys; from vqaudio.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class System:
    name: str
    sample_rate: int
    encode: Callable[[Tensor], Any]  # (T,) -> codes
    decode: Callable[[Any], Tensor]
    random_codes: Callable[[int], Any]  # of so many samples


def our_system(model: str) -> System:
    tokenizer = AudioTokenizer.from_pretrained(model)
    rate = tokenizer.sample_rate

    def random_codes(num_samples: int) -> Codes:
        frames = tokenizer.frames_for(num_samples)
        rows = [torch.randint(0, size, (frames,)) for size in tokenizer.codebook_sizes]
        return Codes(
            torch.stack(rows)[None],
            codebook_sizes=tokenizer.codebook_sizes,
            sample_rate=rate,
            hop_length=tokenizer.hop_length,
            num_samples=num_samples,
            source_sample_rate=rate,
            source_num_samples=num_samples,
            token_fingerprint=tokenizer.token_fingerprint,
        )

    return System(OURS, rate, lambda audio: tokenizer.encode(audio, rate), tokenizer.decode, random_codes)


def encodec_system() -> System:
    """As its README uses it, under inference mode."""
    from encodec import EncodecModel  # here, so that it is in no other system's process

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about the weight norm that encodec uses
        model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    for name, buffer in model.quantizer.named_buffers():
        if name.endswith(".embed"):  # zeros until training starts them by k-means
            buffer.normal_()

    @torch.inference_mode()
    def encode(audio: Tensor) -> Any:
        return model.encode(audio[None, None])

    @torch.inference_mode()
    def decode(frames: Any) -> Tensor:
        return model.decode(frames)

    def random_codes(num_samples: int) -> Any:
        return [(torch.randint(0, 1024, (1, 8, -(-num_samples // 320))), None)]

    return System(PEER, model.sample_rate, encode, decode, random_codes)


def build(name: str, model: str) -> System:
    return our_system(model) if name == OURS else encodec_system()


# ---- rates


def taken(function: Callable[[Any], Any], argument: Any, *, at_once: int) -> float:
    """Wall seconds of `at_once` calls side by side."""
    with ThreadPoolExecutor(at_once) as pool:
        start = time.perf_counter()
        for future in [pool.submit(function, argument) for _ in range(at_once)]:
            future.result()
        return time.perf_counter() - start


def rates(systems: list[System], *, seconds: float, rounds: int, arrangements: dict[str, int]) -> list[dict[str, Any]]:
    """One entry per system and arrangement (a name, and how many threads it is about)."""
    audio = {system.name: real_speech(seconds, system.sample_rate) for system in systems}
    codes = {system.name: system.encode(audio[system.name]) for system in systems}
    for system in systems:
        system.decode(codes[system.name])  # warm, as encoding is by now
    best: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for arrangement, threads in arrangements.items():
            at_once = threads if arrangement.endswith("at once") else 1
            torch.set_num_threads(threads // at_once)
            for system in systems:
                both = (
                    taken(system.encode, audio[system.name], at_once=at_once) / at_once,
                    taken(system.decode, codes[system.name], at_once=at_once) / at_once,
                )
                key = (arrangement, system.name)
                best[key] = [min(pair) for pair in zip(best.get(key, both), both, strict=True)]
    return [
        {
            "seconds": seconds,
            "arrangement": arrangement,
            "system": name,
            "encode_times_real_time": round(seconds / encode, 1),
            "decode_times_real_time": round(seconds / decode, 1),
        }
        for (arrangement, name), (encode, decode) in best.items()
    ]


# ---- memory


def resident_kilobytes(field: str) -> int:
    """VmRSS (now) or VmHWM (the peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def peak_megabytes(name: str, model: str, operation: str, seconds: float) -> float:
    """Of one operation, in this process, above what is resident before it."""
    torch.set_num_threads(1)
    system = build(name, model)
    audio = real_speech(seconds, system.sample_rate)
    function, argument = (system.encode, audio)
    if operation == "decode":
        function, argument = (system.decode, system.random_codes(len(audio)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    level = resident_kilobytes("VmRSS")
    function(argument)
    return round((resident_kilobytes("VmHWM") - level) / 1024, 1)


def memory(model: str, *, seconds: float) -> list[dict[str, Any]]:
    entries = []
    for name in (OURS, PEER):
        entry: dict[str, Any] = {"seconds": seconds, "system": name}
        for operation in ("encode", "decode"):
            request = json.dumps([name, model, operation, seconds])
            command = [sys.executable, __file__, "--measure-memory", request]
            entry[f"{operation}_peak_mb"] = float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        entries.append(entry)
    return entries


# ---- cold start


def cold_start(model: str, *, rounds: int) -> dict[str, Any]:
    """Wall seconds, best of `rounds`."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.flac"
        write_audio(clip, real_speech(10.0, 16_000), 16_000)
        out = str(Path(folder) / "codes")
        command = [sys.executable, "-c", ENCODE_FROM_COMMAND_LINE, "encode", str(clip), "--out", out, "--model", model]
        return {
            "vqaudio_encode_seconds": best_wall(command, rounds),
            "import_torch_seconds": best_wall([sys.executable, "-c", "import torch"], rounds),
        }


def best_wall(command: list[str], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
    return round(best, 2)


# ---- all together


def measure(model: str, *, lengths: list[float], rounds: int) -> dict[str, Any]:
    arrangements = {"one thread": 1}
    if usable_cores() > 1:
        arrangements |= {"two threads": 2, "two at once": 2}
    systems = [build(name, model) for name in (OURS, PEER)]
    found: dict[str, Any] = {"rates": [], "memory": []}
    for seconds in lengths:
        found["rates"] += rates(systems, seconds=seconds, rounds=rounds, arrangements=arrangements)
        found["memory"] += memory(model, seconds=seconds)
        arrangements.pop("two at once", None)  # once will do
    return found | {"cold_start": cold_start(model, rounds=rounds)}


def report(results: dict[str, Any]) -> str:
    def rows() -> Any:
        for entry in results["rates"]:
            same = [
                other
                for other in results["rates"]
                if other["system"] == PEER and all(other[key] == entry[key] for key in ("seconds", "arrangement"))
            ]
            times = [f"{entry[key] / same[0][key]:.1f}" for key in ("encode_times_real_time", "decode_times_real_time")]
            yield [
                entry["system"],
                f"{entry['seconds']:g}",
                entry["arrangement"],
                f"{entry['encode_times_real_time']:.0f} / {entry['decode_times_real_time']:.0f}",
                "–" if entry["system"] == PEER else " / ".join(times),
            ]

    peaks = (
        [entry["system"], f"{entry['seconds']:g}", f"{entry['encode_peak_mb']:.0f} / {entry['decode_peak_mb']:.0f}"]
        for entry in results["memory"]
    )
    cold = results["cold_start"]
    return "\n".join(
        [
            markdown_table(
                ["encode / decode", "seconds of audio", "arrangement", "times real time", "as multiples of EnCodec"],
                rows(),
            ),
            "",
            markdown_table(["encode / decode", "seconds of audio", "peak memory, MB"], peaks),
            "",
            f"`vqaudio encode` of a 10 s file, cold: {cold['vqaudio_encode_seconds']} s; "
            f"`import torch` alone: {cold['import_torch_seconds']} s",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates and memory beside EnCodec.")
    parser.add_argument("--model", default="speech-16k", help="a model that ships with vqaudio, or a model folder")
    parser.add_argument("--random", action="store_true", help="the default architecture with random weights instead")
    parser.add_argument("--lengths", type=float, nargs="+", default=[10.0, 60.0], help="of the audio, in seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--measure-memory", help=argparse.SUPPRESS)  # what the fresh processes are started with
    arguments = parser.parse_args()
    if arguments.measure_memory is not None:
        print(peak_megabytes(*json.loads(arguments.measure_memory)))
        return

    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if arguments.random:
            model = str(Path(folder) / "random")
            save_codec(random_codec(CodecConfig()), model, name="random-weights", about={}, card="Never trained.\n")
        info = AudioTokenizer.from_pretrained(model).info
        results = {
            "model": info.name,
            "model_fingerprint": info.model_fingerprint,
            "settings": {"rounds": arguments.rounds, "lengths": arguments.lengths},
            "machine": machine(),
            "versions": versions("encodec"),
            **measure(model, lengths=arguments.lengths, rounds=arguments.rounds),
        }
    write_results(arguments.out, results)
    print(report(results))


if __name__ == "__main__":
    main()
