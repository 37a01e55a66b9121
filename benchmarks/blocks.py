"""What does a block cost, by its length? python benchmarks/blocks.py [--out benchmarks/blocks.json]

Blocks of `speech-16k` on one thread, through the engine's programs and through the model's own layers: milliseconds
for a block, and times real time. What a block costs whatever its length is the price of short ones; what the last block
of a recording is padded by is the price of long ones, so recordings of two lengths are given as well, for one worker.
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import machine, markdown_table, real_speech, versions, write_results

from vqaudio import AudioTokenizer
from vqaudio.engine import Side
from vqaudio.engine.grid import Block
from vqaudio.nn import Stream

BLOCKS = (1, 2, 5, 10, 25, 50, 100, 150, 200, 400)
RECORDINGS = (2.0, 10.0)  # seconds


def best(function: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """The shortest of the calls that fit into so many seconds, in milliseconds, and the page faults of a call."""
    function()
    times: list[float] = []
    until, faults = time.perf_counter() + seconds, page_faults()
    while time.perf_counter() < until or len(times) < 5:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * min(times), (page_faults() - faults) / len(times)


def page_faults() -> int:
    """Pages that the allocator had to ask the system for, so far: what large tensors that come and go cost."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(tokenizer: AudioTokenizer, block_frames: int, seconds: float) -> dict[str, Any]:
    codec = tokenizer.codec
    entry: dict[str, Any] = {"block_frames": block_frames}
    audio = real_speech(block_frames / float(tokenizer.frame_rate), tokenizer.sample_rate)[None]
    codes = codec.encode(audio[None])
    for direction, data in (("encode", audio), ("decode", codes)):
        side = Side(codec, direction, block_frames=block_frames)  # type: ignore[arg-type]
        block, stream = Block(0, data, data.shape[-1], 0), Stream()
        with side.steps() as steps:
            shortest, faults = best(partial(steps, [block], [stream]), seconds)
        entry[f"{direction}_ms"], entry[f"{direction}_page_faults"] = round(shortest, 2), round(faults)
        layers = partial(codec.encode, data[:, None]) if direction == "encode" else partial(codec.decode, data)
        with torch.inference_mode():
            shortest, faults = best(partial(layers, stream=Stream()), seconds)
        entry[f"{direction}_layers_ms"], entry[f"{direction}_layers_page_faults"] = round(shortest, 2), round(faults)
    return entry


def report(rows: list[dict[str, Any]], tokenizer: AudioTokenizer) -> str:
    rate = float(tokenizer.frame_rate)

    def times(entry: dict[str, Any], direction: str) -> str:
        return f"{1000 * entry['block_frames'] / rate / entry[f'{direction}_ms']:.0f}"

    def recording(entry: dict[str, Any], seconds: float) -> str:
        side = Side(tokenizer.codec, "encode", block_frames=entry["block_frames"])
        blocks = side.grid.num_blocks(round(seconds * tokenizer.sample_rate))
        return f"{1000 * seconds / (blocks * entry['encode_ms']):.0f}"

    table = [
        [
            str(entry["block_frames"]),
            f"{entry['encode_ms']:.1f} / {entry['decode_ms']:.1f}",
            f"{entry['encode_layers_ms']:.1f} / {entry['decode_layers_ms']:.1f}",
            f"{entry['encode_page_faults']} / {entry['decode_page_faults']}",
            f"{times(entry, 'encode')} / {times(entry, 'decode')}",
            *(recording(entry, seconds) for seconds in RECORDINGS),
        ]
        for entry in rows
    ]
    columns = ["frames: encode / decode", "ms for a block", "by the layers", "page faults", "times real time"]
    return markdown_table([*columns, *(f"encoding {seconds:g} s" for seconds in RECORDINGS)], table)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a block costs, by its length.")
    parser.add_argument("--model", default="speech-16k")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AudioTokenizer.from_pretrained(arguments.model)
    rows = [measure(tokenizer, block_frames, arguments.seconds) for block_frames in BLOCKS]
    results = {"model": tokenizer.info.name, "machine": machine(), "versions": versions(), "rows": rows}
    write_results(arguments.out, results)
    print(report(rows, tokenizer))


if __name__ == "__main__":
    main()
