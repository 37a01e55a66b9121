"""What a layout of strides and widths costs: python benchmarks/layouts.py [--rounds 8] [--out benchmarks/layouts.json]

Each codec gets random weights. Counted: parameters, and the floating-point operations of convolutions and matrix
products per second of audio (a multiplication and an addition are two). Measured: times real time on one thread,
through the engine, block by block with the stream's state carried along, as files are coded. It is processor time, and
rounds of all layouts are interleaved and the best of each counts, so that other work on the machine tells little.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, markdown_table, random_codec, real_speech, versions, write_results
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vqaudio.engine import BLOCK_FRAMES, decode_blocks, encode_blocks
from vqaudio.models import Codec, CodecConfig, SeanetDecoderConfig, SeanetEncoderConfig

# All have a hop of 320 samples and eight codebooks of 1,024. The narrow ones have nearly as many parameters as the
# default, so that they differ in where the multiplications are done: at high rates or at low ones.
LAYOUTS = {
    "waveform codec: 8-5-4-2 / 2-4-5-8": CodecConfig(encoder=SeanetEncoderConfig(), decoder=SeanetDecoderConfig()),
    "even: 4-4-4-5 / 5-4-4-4": CodecConfig(
        encoder=SeanetEncoderConfig(strides=(4, 4, 4, 5), channels=(40, 80, 160, 304)),
        decoder=SeanetDecoderConfig(strides=(5, 4, 4, 4), channels=(304, 160, 80, 40)),
    ),
    "classic: 2-4-5-8 / 8-5-4-2": CodecConfig(  # the order of SoundStream and EnCodec, widths doubling
        encoder=SeanetEncoderConfig(strides=(2, 4, 5, 8), channels=(32, 64, 128, 256), units=(1, 1, 1, 1)),
        decoder=SeanetDecoderConfig(strides=(8, 5, 4, 2), channels=(256, 128, 64, 32), units=(1, 1, 1, 1)),
    ),
    "default, half as wide again": CodecConfig(
        encoder=SeanetEncoderConfig(channels=(48, 120, 240, 480)),
        decoder=SeanetDecoderConfig(channels=(480, 240, 144, 48)),
    ),
}


def gflop_per_second(codec: Codec) -> tuple[float, float]:
    """GFLOP that one second of audio takes to encode and to decode, in a block of a stream."""
    samples = BLOCK_FRAMES * codec.hop_length
    audio = torch.zeros(1, 1, samples)
    codes = torch.zeros(1, len(codec.codebook_sizes), BLOCK_FRAMES, dtype=torch.int64)
    with FlopCounterMode(display=False) as encoding:
        codec.encode(audio, stream={})
    with FlopCounterMode(display=False) as decoding:
        codec.decode(codes, stream={})
    seconds = samples / codec.sample_rate
    return encoding.get_total_flops() / seconds / 1e9, decoding.get_total_flops() / seconds / 1e9


def seconds_of(function: Callable[[], object]) -> float:
    """Of processor time: with one thread, wall time on an idle core."""
    start = time.process_time()
    function()
    return time.process_time() - start


def encode(codec: Codec, audio: Tensor) -> Tensor:
    return torch.cat(list(encode_blocks(codec, [audio])), dim=-1)


def decode(codec: Codec, codes: Tensor, num_samples: int) -> Tensor:
    return torch.cat(list(decode_blocks(codec, [codes], num_samples=num_samples)), dim=-1)


def report(layouts: list[dict[str, Any]]) -> str:
    columns = ["strides: encoder / decoder", "parameters, M", "GFLOP per second of audio", "times real time"]
    rows = (
        [
            row["layout"],
            f"{row['encoder_parameters'] / 1e6:.2f} + {row['decoder_parameters'] / 1e6:.2f}",
            f"{row['encode_gflop_per_second']:.2f} / {row['decode_gflop_per_second']:.2f}",
            f"{row['encode_times_real_time']:.0f} / {row['decode_times_real_time']:.0f}",
        ]
        for row in layouts
    )
    return markdown_table(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="What layouts of strides and widths cost.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    codecs = {name: random_codec(config) for name, config in LAYOUTS.items()}
    audio = real_speech(arguments.seconds, 16_000)[None]
    codes = {name: encode(codec, audio) for name, codec in codecs.items()}  # which also warms everything up
    best = {name: [float("inf"), float("inf")] for name in codecs}
    for _ in range(arguments.rounds):
        for name, codec in codecs.items():
            taken = (
                seconds_of(lambda codec=codec: encode(codec, audio)),
                seconds_of(lambda codec=codec, name=name: decode(codec, codes[name], audio.shape[-1])),
            )
            best[name] = [min(pair) for pair in zip(best[name], taken, strict=True)]

    layouts = []
    for name, codec in codecs.items():
        encoding, decoding = gflop_per_second(codec)
        config = codec.config
        layouts.append(
            {
                "layout": name,
                "encoder": {"strides": config.encoder.strides, "channels": config.encoder.channels},
                "decoder": {"strides": config.decoder.strides, "channels": config.decoder.channels},
                "encoder_parameters": sum(p.numel() for p in codec.encoder.parameters()),
                "decoder_parameters": sum(p.numel() for p in codec.decoder.parameters()),
                "encode_gflop_per_second": round(encoding, 4),
                "decode_gflop_per_second": round(decoding, 4),
                "encode_times_real_time": round(arguments.seconds / best[name][0], 1),
                "decode_times_real_time": round(arguments.seconds / best[name][1], 1),
            }
        )
    settings = {"rounds": arguments.rounds, "seconds": arguments.seconds, "block_frames": BLOCK_FRAMES, "threads": 1}
    write_results(
        arguments.out,
        {"machine": machine(), "versions": versions(), "settings": settings, "layouts": layouts},
    )
    print(report(layouts))


if __name__ == "__main__":
    main()
