"""What a run says of its codec on validation audio: losses, SI-SDR, the use of every codebook, and samples to hear."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqaudio.data.crops import validation_clips
from vqaudio.data.packed import PackedAudio
from vqaudio.losses.reconstruction import si_sdr
from vqaudio.models import Codec
from vqaudio.quantize import CodeUsage
from vqaudio.training.log import write_sample
from vqaudio.training.recipe import ReportConfig
from vqaudio.training.step import Objective


class Validator:
    """Scores a codec on the same clips each time. Writes samples into `folder`."""

    def __init__(
        self, packed: PackedAudio, report: ReportConfig, objective: Objective, *, sample_rate: int, folder: Path
    ) -> None:
        self.report, self.objective, self.sample_rate, self.folder = report, objective, sample_rate, folder
        self.clips = validation_clips(
            packed, seconds=report.validation_seconds, count=report.validation_clips, sample_rate=sample_rate
        )

    def num_frames(self, hop_length: int) -> int:
        """Of all clips: more codes than that cannot be in use on them."""
        return sum(-(-clip.shape[-1] // hop_length) for _, clip in self.clips)

    @torch.no_grad()
    def scores(self, codec: Codec, step: int, *, quantize: bool, device: torch.device) -> dict[str, Any]:
        """Means over clips by name; with `quantize`, lists with one value for each codebook as well."""
        codec.eval()
        usage = CodeUsage(codec.codebook_sizes)
        sums: dict[str, float] = {}
        energy: list[float] = []
        for number, (_, clip) in enumerate(self.clips):
            audio = clip[None].to(device)
            output = codec(audio, quantize=quantize)
            total, parts = self.objective(output, audio)
            sound = self.objective.of_sound(output, parts)
            values = {"loss": total, "reconstruction": sound, **parts, "si_sdr": si_sdr(output.audio, audio).mean()}
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(self.clips)
            if quantize:
                usage.add(output.codes)
                ratios = output.stats["residual_energy"].tolist()
                energy = [a + b / len(self.clips) for a, b in zip(energy or [0.0] * len(ratios), ratios, strict=True)]
            if number < self.report.num_samples and step % self.report.samples_every == 0:
                self._write_samples(number, step, clip, output.audio[0])
        scores: dict[str, Any] = {name: round(value, 5) for name, value in sums.items()}
        if quantize:
            scores["used"] = usage.used
            scores["perplexity"] = [round(value, 1) for value in usage.perplexity]
            scores["entropy_bits"] = [round(value, 3) for value in usage.entropy_bits]
            scores["residual_energy"] = [round(value, 4) for value in energy]
        return scores

    def _write_samples(self, number: int, step: int, clip: Tensor, audio: Tensor) -> None:
        # each time: one that is there may be of a run before this one, on other clips
        write_sample(self.folder / f"{number}-original.wav", clip, self.sample_rate)
        write_sample(self.folder / f"{number}-step-{step:06d}.wav", audio, self.sample_rate)
