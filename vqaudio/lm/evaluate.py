"""How good a language model is: bits beside an n-gram's on the same frames, and its samples beside reconstructions.

Bits per second of audio are what an arithmetic coder with the model's probabilities would need for the codes. Both the
model and the n-gram (`vqaudio.lm.ngram`) are told where a recording ends, and pay for every code in it, the first
included. Intervals are over speakers: recordings of one speaker resemble each other.

Samples are heard by DNSMOS, which needs no reference, and by a pitch tracker. Beside them are reconstructions of the
recordings that prompts are taken from, with as many codebooks: what the tokenizer gives at its best.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqaudio.evaluation.external import dnsmos_of_estimate, external_measures
from vqaudio.evaluation.measures import NotMeasuredError
from vqaudio.evaluation.rules import RESAMPLES
from vqaudio.io import write_audio
from vqaudio.lm.folder import CodeFolder, CodeItem
from vqaudio.lm.model import LanguageModel, code_bits, load_lm
from vqaudio.lm.ngram import ngram_bits
from vqaudio.lm.sample import Sampled, Sampling, sample
from vqaudio.lm.speech import codes_of
from vqaudio.lm.train import folder_hash, recordings_of
from vqaudio.metrics.pitch import pitch_track
from vqaudio.tokenizer import AudioTokenizer

FORMAT, VERSION = "vqaudio-lm-evaluation", 1
DNSMOS_RATE = 16_000  # Hz
SPOKEN_SECONDS = 1.0  # at least so much of a recording must follow its prompt
Pairs = Sequence[tuple[CodeItem, Tensor]]


def evaluate_lm(
    model_folder: str | Path,
    codes: str | Path,
    *,
    split: str = "test",
    num_samples: int = 0,
    seconds: float = 6.0,
    prompt_seconds: float = 2.0,
    sampling: Sampling | None = None,
    tokenizer: str | None = None,
    clips: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """What `vqaudio lm evaluate` writes. The n-gram counts the split `train` of the folder, and is fitted on `valid`.

    With `num_samples` so many recordings of the split are continued after `prompt_seconds`, and as many are begun from
    nothing; `seconds` each. `clips` is a folder for them.
    """
    found = load_lm(model_folder, device=device)
    model, folder = found.model, CodeFolder(codes)
    model.space.check_codes_of(folder)
    parts = {name: recordings_of(folder.select(split=name), model.space) for name in ("train", "valid", split)}
    result = {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "about": found.about,
            "tokenizer": found.tokenizer,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "data": data_of(parts[split], split, float(model.space.frame_rate)) | {"codes": folder_hash(codes)},
        "bits": compared_bits(model, parts["train"], parts["valid"], parts[split]),
    }
    if num_samples:
        codec = AudioTokenizer.from_pretrained(tokenizer or found.tokenizer, device=device)
        model.space.check_codes_of(codec)
        speech = _Speech(model, codec, seconds, prompt_seconds, sampling or Sampling(), clips)
        result["samples"] = speech.scores(parts[split], num_samples)
    return result


def data_of(pairs: Pairs, split: str, frame_rate: float) -> dict[str, Any]:
    frames = sum(codes.shape[-1] for _, codes in pairs)
    speakers = len({item.speaker for item, _ in pairs})
    return {"split": split, "recordings": len(pairs), "speakers": speakers, "seconds": round(frames / frame_rate, 1)}


# ---- bits


def compared_bits(model: LanguageModel, train: Pairs, valid: Pairs, test: Pairs) -> dict[str, Any]:
    """Bits per second of both, for each codebook and in all, and how much fewer the model needs."""
    ours = [bits.numpy() for bits in code_bits(model, [codes for _, codes in test])]
    theirs = ngram_bits(
        *([codes.numpy() for _, codes in pairs] for pairs in (train, valid, test)),
        codebook_sizes=model.space.layout.codebook_sizes,
    )
    rate = float(model.space.frame_rate)
    speakers = [item.speaker or item.name for item, _ in test]
    sizes = model.space.layout.codebook_sizes
    return {
        "uncoded": round(rate * sum(math.log2(size) for size in sizes), 2),
        "model": _per_second(ours, rate),
        "ngram": _per_second(theirs, rate),
        "fewer_percent": fewer_percent(ours, theirs, speakers),
        "fewer_percent_of_codebooks": [
            fewer_percent([bits[k] for bits in ours], [bits[k] for bits in theirs], speakers) for k in range(len(sizes))
        ],
    }


def _per_second(bits: Sequence[np.ndarray], rate: float) -> dict[str, Any]:
    mean = rate * np.concatenate(bits, axis=1).mean(axis=1)
    return {"total": round(float(mean.sum()), 2), "codebooks": [round(float(value), 2) for value in mean]}


def fewer_percent(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], speakers: Sequence[str], *, seed: int = 0
) -> dict[str, float]:
    """By how many per cent our sum is below theirs, and its 95 % interval, for which whole speakers are drawn."""
    _, groups = np.unique(list(speakers), return_inverse=True)
    sums = np.stack([np.bincount(groups, weights=[each.sum() for each in bits]) for bits in (ours, theirs)])  # (2, S)
    result = {"mean": _fewer(sums.sum(axis=1, keepdims=True))[0]}
    if sums.shape[1] > 1:
        picks = np.random.default_rng(seed).integers(0, sums.shape[1], size=(RESAMPLES, sums.shape[1]))
        low, high = np.percentile(_fewer(sums[:, picks].sum(axis=2)), (2.5, 97.5))
        result |= {"low": low, "high": high}
    return {name: round(float(value), 2) for name, value in result.items()}


def _fewer(sums: np.ndarray) -> np.ndarray:
    percent: np.ndarray = 100.0 * (1.0 - sums[0] / sums[1])
    return percent


# ---- samples


class _Speech:
    def __init__(
        self,
        model: LanguageModel,
        tokenizer: AudioTokenizer,
        seconds: float,
        prompt_seconds: float,
        sampling: Sampling,
        clips: Path | None,
    ) -> None:
        self.model, self.tokenizer, self.sampling, self.clips = model, tokenizer, sampling, clips
        rate = float(model.space.frame_rate)
        self.num_frames, self.prompt_frames = round(seconds * rate), round(prompt_seconds * rate)
        if not 0 < self.prompt_frames < self.num_frames:
            raise ValueError(f"of {seconds} seconds {prompt_seconds} are the prompt; it is more than 0, and not all")

    def scores(self, pairs: Pairs, count: int) -> dict[str, Any]:
        model = self.model
        least = self.prompt_frames + round(SPOKEN_SECONDS * float(model.space.frame_rate))
        usable = [codes for _, codes in pairs if codes.shape[-1] >= least]
        if not usable:
            raise ValueError(f"no recording is {SPOKEN_SECONDS:g} s longer than the prompt; give a shorter one")
        chosen = [usable[index * len(usable) // count] for index in range(min(count, len(usable)))]
        prompts = torch.stack([codes[:, : self.prompt_frames] for codes in chosen])
        continued = sample(model, num_frames=self.num_frames, prompt=prompts, sampling=self.sampling)
        begun = sample(model, num_frames=self.num_frames, num_items=len(chosen), sampling=self.sampling)
        alone = sample(model, num_frames=self.num_frames, sampling=self.sampling)
        after = [codes[:, self.prompt_frames : self.num_frames] for codes in chosen]
        groups = {
            "reconstructed": self._scored("reconstructed", after),
            "continued": self._scored("continued", [codes[:, self.prompt_frames :] for codes in continued.codes]),
            "begun": self._scored("begun", list(begun.codes)),
        }
        if self.clips is not None:
            self._write("prompt-and-continuation", list(continued.codes))
        return {
            "sampling": vars(self.sampling),
            "seconds": self.num_frames / float(model.space.frame_rate),
            "prompt_seconds": self.prompt_frames / float(model.space.frame_rate),
            "versions": dict(next(m.versions or {} for m in external_measures() if m.compute is dnsmos_of_estimate)),
            "groups": groups,
            "speed": {"one": self._speed(alone), f"batch of {len(chosen)}": self._speed(begun)},
        }

    def _speed(self, sampled: Sampled) -> dict[str, float]:
        times, idle = sampled.times_real_time(self.model.space.frame_rate), sampled.seconds / sampled.processor_seconds
        return {
            "tokens_per_second": round(sampled.tokens_per_second, 1),
            "times_real_time": round(times, 3),
            "tokens_per_processor_second": round(sampled.tokens_per_second * idle, 1),
            "times_real_time_of_processor": round(times * idle, 3),
        }

    def _write(self, name: str, recordings: Sequence[Tensor]) -> None:
        assert self.clips is not None
        self.clips.mkdir(parents=True, exist_ok=True)
        for number, values in enumerate(recordings, start=1):
            codes = codes_of(self.model.space, values)
            codes.save(self.clips / f"{name}-{number}.vqt")
            write_audio(self.clips / f"{name}-{number}.wav", self.tokenizer.decode(codes), self.tokenizer.sample_rate)

    def _scored(self, name: str, recordings: Sequence[Tensor]) -> dict[str, Any]:
        """Means over recordings, each decoded by itself; what could not be measured is counted and left out."""
        if self.clips is not None:
            self._write(name, recordings)
        rows = []
        for values in recordings:
            audio = self.tokenizer.decode(codes_of(self.model.space, values))[0].clamp(-1, 1).numpy()
            rows.append(speech_values(audio, self.tokenizer.sample_rate))
        names = dict.fromkeys(name for row in rows for name in row)
        values_of = {name: [row[name] for row in rows if name in row] for name in names}
        means = {
            name: {
                "mean": round(float(np.mean(found)), 3),
                "deviation": round(float(np.std(found)), 3),
                "files": len(found),
            }
            for name, found in values_of.items()
        }
        return {"files": len(rows), "values": means}


def speech_values(audio: np.ndarray, sample_rate: int) -> dict[str, float]:
    """DNSMOS, the share of voiced frames, the median and the spread of F0, and the level, of (T,) in [-1, 1].

    What has no value is left out: DNSMOS of silence or without its package, F0 where nothing is voiced.
    """
    level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    values = {"level_db": 20 * math.log10(level)} if level > 0 else {}
    try:
        if sample_rate == DNSMOS_RATE:
            values |= dnsmos_of_estimate(audio, audio, sample_rate)
    except NotMeasuredError:
        pass
    track = pitch_track(audio, sample_rate)
    values["voiced_share"] = float(track.voiced.mean())
    if track.voiced.any():
        f0 = track.f0_hz[track.voiced]
        values["f0_median_hz"] = float(np.median(f0))
        values["f0_deviation_semitones"] = float(np.std(12 * np.log2(f0)))
    return values


# ---- in words


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    bits, data = result["bits"], result["data"]
    minutes = data["seconds"] / 60
    lines = [
        f"{data['split']}: {data['recordings']} recordings of {data['speakers']} speakers, {minutes:.1f} minutes",
        "",
        f"{'bits per second':18}{'model':>9}{'n-gram':>9}   fewer, %",
    ]
    for k, difference in enumerate(bits["fewer_percent_of_codebooks"]):
        row = (f"codebook {k}", bits["model"]["codebooks"][k], bits["ngram"]["codebooks"][k])
        lines.append(f"{row[0]:18}{row[1]:9.1f}{row[2]:9.1f}   {interval(difference)}")
    total = bits["model"]["total"], bits["ngram"]["total"]
    lines.append(f"{'all':18}{total[0]:9.1f}{total[1]:9.1f}   {interval(bits['fewer_percent'])}")
    if "samples" in result:
        lines.append("")
        for name, group in result["samples"]["groups"].items():
            found = ", ".join(f"{key} {value['mean']:g}" for key, value in group["values"].items())
            lines.append(f"{name} ({group['files']}): {found}")
        for name, speed in result["samples"]["speed"].items():
            times = f"{speed['times_real_time']:g} times real time"
            lines.append(f"{name}: {speed['tokens_per_second']:g} tokens per second, {times}")
    return lines


def interval(value: Mapping[str, float]) -> str:
    """A mean with its interval, if it has one."""
    return f"{value['mean']:.1f}" + (f" [{value['low']:.1f}, {value['high']:.1f}]" if "low" in value else "")
