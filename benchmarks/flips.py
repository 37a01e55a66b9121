"""How often rounding changes a code: python benchmarks/flips.py [--data MANIFEST] [--device cuda]

The codes of files are compared with those that come out of

    blocks of 1, 2, 10, 50 and 100 frames     as a live session with `block_frames` gives them
    the model's own layers                    the whole recording at once, without the engine
    another device                            with --device cuda, blocks of many recordings in one batch

Wherever two frames differ, the first level that differs has to be a near-tie: its two codes' scores, in float64, lie
within 1e-4. The table gives the share of frames that differ, and the largest of these gaps.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from common import SAMPLES, SPEECH, machine, markdown_table, versions, write_results
from torch import Tensor

from vqaudio import AudioTokenizer, Codes
from vqaudio.doctor import Difference, compare
from vqaudio.dsp import mix_down, resample
from vqaudio.evaluation.recordings import select
from vqaudio.io import read_audio

BLOCKS = (1, 2, 10, 50, 100)


def files(data: Path | None, split: str, most: int) -> list[Path]:
    """The speech in samples/, or `most` files of a manifest's split, spread over it."""
    if data is None:
        return [SAMPLES / name for name in SPEECH]
    recordings = select(data, split=split, kind="speech").recordings
    step = max(1, len(recordings) // most)
    return [recording.file for recording in recordings[::step]][:most]


def ways(tokenizer: AudioTokenizer, device: str | None) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> function from audio (1, T) to codes (1, K, N)."""

    def live(block_frames: int) -> Callable[[Tensor], Tensor]:
        def pushed(audio: Tensor) -> Tensor:
            session = tokenizer.session(block_frames=block_frames)
            return Codes.concatenate([session.push(audio), session.finish()]).values

        return pushed

    found = {f"blocks of {block}": live(block) for block in BLOCKS}
    found["the model's own layers"] = lambda audio: tokenizer.codec.encode(audio[None])
    if device is not None:
        other = AudioTokenizer.from_pretrained(tokenizer.info.name, device=device)
        found[f"on {device}"] = lambda audio: other.encode(audio).values
    return found


def measure(model: str, paths: list[Path], device: str | None) -> dict[str, dict[str, float]]:
    tokenizer = AudioTokenizer.from_pretrained(model)
    found: dict[str, list[Difference]] = {}
    for path in paths:
        audio, rate = read_audio(path)
        audio = resample(mix_down(audio), rate, tokenizer.sample_rate)
        codes = tokenizer.encode(audio).values
        for name, way in ways(tokenizer, device).items():
            found.setdefault(name, []).append(compare(tokenizer.codec, audio, way(audio), codes))
    return {
        name: {
            "frames": sum(each.frames for each in differences),
            "differing": sum(each.differing for each in differences),
            "largest_gap": max(each.largest_gap for each in differences),
        }
        for name, differences in found.items()
    }


def report(results: dict[str, dict[str, float]]) -> str:
    rows = []
    for name, found in results.items():
        share = f"{100 * found['differing'] / found['frames']:.3f} %"
        gap = f"{found['largest_gap']:.1e}" if found["differing"] else "–"
        rows.append([name, f"{found['frames']:.0f}", f"{found['differing']:.0f}", share, gap])
    return markdown_table(["against blocks of files", "frames", "differing", "share", "largest gap"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often rounding changes a code.")
    parser.add_argument("--model", default="speech-16k")
    parser.add_argument("--data", type=Path, help="a manifest; default: the speech in samples/")
    parser.add_argument("--split", default="test")
    parser.add_argument("--files", type=int, default=1000, help="at most so many")
    parser.add_argument("--device", help="another device to compare with, such as cuda")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = files(arguments.data, arguments.split, arguments.files)
    found = measure(arguments.model, paths, arguments.device)
    results = {
        "model": arguments.model,
        "files": len(paths),
        "machine": machine(),
        "versions": versions(),
        "ways": found,
    }
    write_results(arguments.out, results)
    print(report(found))


if __name__ == "__main__":
    main()
