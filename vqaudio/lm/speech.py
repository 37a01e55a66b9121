"""Sampled codes as files: what a prompt is, and what becomes of what was written."""

from pathlib import Path

from torch import Tensor

from vqaudio.codes import Codes
from vqaudio.io import write_audio
from vqaudio.layouts import TokenSpace
from vqaudio.lm.model import LanguageModel
from vqaudio.lm.sample import Sampled, Sampling, sample
from vqaudio.tokenizer import AudioTokenizer


def prompt_codes(path: str | Path, tokenizer: AudioTokenizer, space: TokenSpace, *, seconds: float) -> Tensor:
    """The first seconds of an audio file, or of a code file (.vqt), as (K, P). Channels are mixed, or the first taken.

    ValueError if the codes are another tokenizer's.
    """
    path, K = Path(path), space.layout.num_codebooks
    if not seconds > 0:
        raise ValueError(f"a prompt of {seconds} seconds was asked for; it is more than 0")
    codes = Codes.load(path) if path.suffix == ".vqt" else tokenizer.encode(path, num_codebooks=K)
    space.check_codes_of(codes)
    return codes.values[0, :K, : round(seconds * float(space.frame_rate))]


def write_speech(
    model: LanguageModel,
    tokenizer: AudioTokenizer,
    out: Path,
    *,
    seconds: float,
    num_items: int,
    prompt: Tensor | None,
    sampling: Sampling,
) -> Sampled:
    """Write `num_items` samples of so many seconds, prompt (K, P) included, as out/sample-1.vqt and .wav, …"""
    num_frames = round(seconds * float(model.space.frame_rate))
    if num_frames < 1:
        raise ValueError(f"{seconds} seconds are less than a frame")
    prompts = None if prompt is None else prompt.expand(num_items, -1, -1)
    result = sample(model, num_frames=num_frames, prompt=prompts, num_items=num_items, sampling=sampling)
    for number, values in enumerate(result.codes, start=1):
        codes = codes_of(model.space, values)
        codes.save(out / f"sample-{number}.vqt")
        write_audio(out / f"sample-{number}.wav", tokenizer.decode(codes), tokenizer.sample_rate)
    return result


def codes_of(space: TokenSpace, values: Tensor) -> Codes:
    """Codes (K, N) as what the tokenizer decodes: whole frames at its rate."""
    return space.to_codes(space.layout.to_tokens(values))
