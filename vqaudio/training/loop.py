"""The training procedure, on one page: crops -> codec -> losses -> step, with validation, checkpoints and resume."""

import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vqaudio.checkpoint import save_codec
from vqaudio.config import to_dict
from vqaudio.data.crops import Batch, CropSampler, prefetch, validation_clips
from vqaudio.data.packed import PackedAudio
from vqaudio.losses import MultiResolutionSTFT, MultiScaleMel, mu_law_cross_entropy, waveform_l1, waveform_mse
from vqaudio.losses.reconstruction import si_sdr
from vqaudio.models import Codec, CodecOutput
from vqaudio.quantize import CodeUsage
from vqaudio.training.card import write_card
from vqaudio.training.log import ProgressLine, RunLog, write_sample
from vqaudio.training.recipe import LossConfig, Recipe
from vqaudio.training.state import RunState, checkpoints, load_checkpoint, save_checkpoint

# Steps measured before a budget in minutes becomes a number of steps.
MEASURED_STEPS = 30
# Batches skipped in a row before the run gives up: past this the model itself has gone, not a file.
MOST_SKIPPED_IN_A_ROW = 50


class Objective(nn.Module):
    """The weighted sum of a recipe's losses. Returns it with every unweighted part by name."""

    def __init__(self, config: LossConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.mel = MultiScaleMel(sample_rate, windows=config.mel_windows, num_mels=config.num_mels)
        self.stft = MultiResolutionSTFT(windows=config.stft_windows)

    def forward(self, output: CodecOutput, audio: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights, parts = self.config, {}
        if weights.mel:
            parts["mel"] = self.mel(output.audio, audio)
        if weights.magnitude or weights.log_magnitude or weights.complex:
            parts.update(self.stft(output.audio, audio))
        if weights.waveform_l1:
            parts["waveform_l1"] = waveform_l1(output.audio, audio)
        if weights.waveform_mse:
            parts["waveform_mse"] = waveform_mse(output.audio, audio)
        if weights.mu_law:
            assert output.logits is not None
            parts["mu_law"] = mu_law_cross_entropy(output.logits, audio)
        parts.update({name: loss.mean() for name, loss in output.losses.items()})  # mean over codebooks
        total = sum((getattr(weights, name) * value for name, value in parts.items()), audio.new_zeros(()))
        return total, parts


@dataclass(frozen=True)
class StepResult:
    ok: bool  # False: something was not finite, and nothing was changed
    parts: dict[str, Tensor]
    stats: dict[str, Tensor]


def train_step(
    codec: Codec,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    audio: Tensor,
    *,
    num_codebooks: Tensor | None,
    generator: torch.Generator,
    quantize: bool,
    clip_norm: float,
) -> StepResult:
    """One update on audio (B, 1, T). A batch, loss or gradient that is not finite leaves every parameter as it was."""
    if not audio.isfinite().all():
        return StepResult(False, {}, {})
    optimizer.zero_grad(set_to_none=True)
    output = codec(audio, num_codebooks=num_codebooks, generator=generator, quantize=quantize)
    total, parts = objective(output, audio)
    parts = {"loss": total, **parts}
    if not total.isfinite():
        return StepResult(False, parts, output.stats)
    total.backward()
    parts["gradient_norm"] = nn.utils.clip_grad_norm_(codec.parameters(), clip_norm)
    if not parts["gradient_norm"].isfinite():
        return StepResult(False, parts, output.stats)
    optimizer.step()
    for parameter, rows in output.revived:  # a reborn code must not inherit the momentum of the dead one
        for name, moment in optimizer.state[parameter].items():
            if name != "step":
                moment[rows] = 0.0
    return StepResult(True, {name: value.detach() for name, value in parts.items()}, output.stats)


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Linear warm-up times a cosine that reaches `final_fraction` at the end of the budget."""
    config = recipe.optimizer
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(step / total_steps, 1.0)))
    return config.learning_rate * warmup * (config.final_fraction + (1.0 - config.final_fraction) * cosine)


def dropped_codebooks(recipe: Recipe, first_item: int, batch_size: int, num_codebooks: int) -> Tensor:
    """How many codebooks each item of a batch uses, (B,): drawn per global item index, so ranks and resume agree."""
    counts = []
    for index in range(first_item, first_item + batch_size):
        # same key as the item's crop, another part of its counter
        bits = np.random.Philox(key=np.array([recipe.seed, index], dtype=np.uint64), counter=[0, 0, 0, 1])
        draw = np.random.Generator(bits)
        kept = int(draw.integers(1, num_codebooks + 1))
        counts.append(kept if draw.random() < recipe.quantizer.dropout else num_codebooks)
    return torch.tensor(counts)


def train(
    recipe: Recipe,
    packs: str | Path,
    out: str | Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    resume: Literal["auto", "never"] = "never",
    device: str = "cpu",
) -> Path:
    """Train `recipe` on a pack folder; returns the model folder `out/model`.

    `out` holds log.jsonl, samples/, checkpoint-*/ and in the end model/. A budget in minutes becomes steps after 30
    measured ones and is stored, so that a resumed run follows the same schedule. With resume="auto" the newest whole
    checkpoint is continued, or a new run begun if there is none; without, a folder that holds a run is refused.
    """
    if steps is not None and minutes is not None:
        raise ValueError("give a budget in steps or in minutes, not both")
    if (steps is not None and steps < 1) or (minutes is not None and not minutes > 0):
        raise ValueError(f"the budget must be positive, got {steps if steps is not None else minutes}")
    out = Path(out)
    if resume == "never" and checkpoints(out):
        raise ValueError(f"{out} already holds a run; continue it with --resume auto, or choose another --out")
    training, validation = PackedAudio(packs, "train"), PackedAudio(packs, "valid")
    if training.sample_rate != recipe.codec.sample_rate:
        raise ValueError(
            f"{packs}: packed at {training.sample_rate} Hz, but recipe {recipe.name!r} wants "
            f"{recipe.codec.sample_rate} Hz"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "samples").mkdir(exist_ok=True)
    run = Run(recipe, training, validation, out, torch.device(device))
    return run.go(steps=steps, minutes=minutes, resume=resume == "auto")


class Run:
    """One training run: what `train` sets up, and the loop."""

    def __init__(
        self, recipe: Recipe, training: PackedAudio, validation: PackedAudio, out: Path, device: torch.device
    ) -> None:
        self.recipe, self.out, self.device, self.training = recipe, out, device, training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.codec = recipe.codec.build().to(device)
        self.objective = Objective(recipe.losses, recipe.codec.sample_rate).to(device)
        config = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.codec.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.sampler = self._sampler(recipe.seed)
        report = recipe.report
        self.clips = validation_clips(
            validation,
            seconds=report.validation_seconds,
            count=report.validation_clips,
            sample_rate=recipe.codec.sample_rate,
        )
        self.log = RunLog(out)

    def _sampler(self, seed: int) -> CropSampler:
        data = self.recipe.data
        return CropSampler(
            self.training,
            crop_samples=self.recipe.crop_samples,
            batch_size=data.batch_size,
            seed=seed,
            gain_db=data.gain_db,
            full_edges_probability=data.full_edges_probability,
            silence_probability=data.silence_probability,
            partial_silence_probability=data.partial_silence_probability,
        )

    def go(self, *, steps: int | None, minutes: float | None, resume: bool) -> Path:
        settings = to_dict(self.recipe)
        state = RunState(step=0, total_steps=steps or (0 if minutes else self.recipe.steps), seconds=0.0, skipped=0)
        found = load_checkpoint(self.out, self.codec, self.optimizer, recipe=settings) if resume else None
        if found:
            state, damaged = found
            if steps is not None and steps != state.total_steps:
                raise ValueError(f"{self.out} was begun for {state.total_steps} steps; it cannot resume for {steps}")
            self.log.truncate_after(state.step)
            self.log.write("resume", state.step, damaged=damaged)
        else:
            self.log.truncate_after(-1)
            self.log.write("start", 0, recipe=settings, parameters=sum(p.numel() for p in self.codec.parameters()))
        self._loop(state, minutes=minutes, settings=settings)
        scores = self._validate(state.step)
        return self._export(state, settings, scores)

    def _loop(self, state: RunState, *, minutes: float | None, settings: dict[str, Any]) -> None:
        recipe, report = self.recipe, self.recipe.report
        # a budget in minutes has no number of steps yet; prefetching ends where the loop does
        unknown = state.total_steps == 0
        last = MEASURED_STEPS if unknown else state.total_steps
        progress = ProgressLine(last)
        sums: dict[str, float] = {}
        skipped_in_a_row, window_start, waited = 0, time.monotonic(), 0.0
        while state.step < last:
            batches = prefetch(self.sampler, state.step, last)
            started = time.monotonic()
            for batch in batches:
                waited += time.monotonic() - started
                if state.step == recipe.quantizer.quantize_after:
                    self._fit_quantizer()
                result = self._step(batch, state)
                if result.ok:
                    skipped_in_a_row = 0
                else:
                    state.skipped += 1
                    skipped_in_a_row += 1
                    self.log.write("skipped", state.step, names=list(batch.names), reason="not finite")
                    if skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
                        raise RuntimeError(f"{skipped_in_a_row} batches in a row were not finite; see {self.log.path}")
                state.step += 1
                for name, value in result.parts.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                if state.step % report.log_every == 0:
                    spent = time.monotonic() - window_start
                    state.seconds += spent
                    self._log_training(state, sums, result.stats, spent, waited)
                    progress.update(state.step, f"loss {sums.get('loss', math.nan) / report.log_every:.3f}")
                    sums, waited, window_start = {}, 0.0, time.monotonic()
                if state.step % report.validate_every == 0:
                    self._validate(state.step)
                if state.step % report.checkpoint_every == 0 and not unknown:
                    keep = report.keep_checkpoints
                    save_checkpoint(self.out, state, self.codec, self.optimizer, recipe=settings, keep=keep)
                if state.step == MEASURED_STEPS - 20:
                    measured_from = time.monotonic()  # the first steps warm caches up
                started = time.monotonic()
            if unknown:
                assert minutes is not None
                per_step = (time.monotonic() - measured_from) / 20
                # 6 % for validation, samples and checkpoints
                state.total_steps = max(MEASURED_STEPS + 1, int(minutes * 60.0 * 0.94 / per_step))
                unknown, last = False, state.total_steps
                progress.total = last
                self.log.write("budget", state.step, total_steps=last, step_seconds=round(per_step, 4))
        progress.close()
        save_checkpoint(self.out, state, self.codec, self.optimizer, recipe=settings, keep=report.keep_checkpoints)

    def _step(self, batch: Batch, state: RunState) -> StepResult:
        recipe, step = self.recipe, state.step
        # before the budget is known the run is in its warm-up, far from where the cosine bends
        rate = learning_rate(recipe, step, state.total_steps or 10**9)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        B = len(batch.audio)
        K = len(self.codec.codebook_sizes)
        self.codec.train()
        return train_step(
            self.codec,
            self.objective,
            self.optimizer,
            batch.audio.to(self.device),
            num_codebooks=dropped_codebooks(recipe, step * recipe.data.batch_size, B, K),
            generator=torch.Generator().manual_seed(recipe.seed * 1_000_003 + step),
            quantize=step >= recipe.quantizer.quantize_after,
            clip_norm=recipe.optimizer.clip_norm,
        )

    @torch.no_grad()
    def _fit_quantizer(self) -> None:
        # another seed: these crops are looked at, not trained on
        sampler = self._sampler(self.recipe.seed + 1)
        batches = (sampler.batch(index).audio.to(self.device) for index in range(self.recipe.quantizer.fit_batches))
        latents = [self.codec.encode_latents(audio).transpose(1, 2).flatten(0, 1) for audio in batches]
        self.codec.quantizer.fit(torch.cat(latents), generator=torch.Generator().manual_seed(self.recipe.seed))

    def _log_training(
        self, state: RunState, sums: dict[str, float], stats: dict[str, Tensor], spent: float, waited: float
    ) -> None:
        every = self.recipe.report.log_every
        self.log.write(
            "train",
            state.step,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=round(state.seconds, 1),
            step_seconds=round(spent / every, 4),
            data_wait_seconds=round(waited / every, 5),
            **{name: round(value / every, 5) for name, value in sums.items()},
            **{name: [round(float(v), 4) for v in value] for name, value in stats.items()},
        )

    @torch.no_grad()
    def _validate(self, step: int) -> dict[str, Any]:
        """Losses, SI-SDR and the use of every codebook on the validation clips; now and then their audio."""
        self.codec.eval()
        recipe, usage = self.recipe, CodeUsage(self.codec.codebook_sizes)
        quantize = step > recipe.quantizer.quantize_after
        sums: dict[str, float] = {}
        energy: list[float] = []
        for number, (_, clip) in enumerate(self.clips):
            audio = clip[None].to(self.device)
            output = self.codec(audio, quantize=quantize)
            total, parts = self.objective(output, audio)
            values = {"loss": total, **parts, "si_sdr": si_sdr(output.audio, audio).mean()}
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(self.clips)
            if quantize:
                usage.add(output.codes)
                ratios = output.stats["residual_energy"].tolist()
                energy = [a + b / len(self.clips) for a, b in zip(energy or [0.0] * len(ratios), ratios, strict=True)]
            if number < recipe.report.num_samples and step % recipe.report.samples_every == 0:
                self._write_samples(number, step, clip, output.audio[0])
        scores: dict[str, Any] = {name: round(value, 5) for name, value in sums.items()}
        if quantize:
            scores["used"] = usage.used
            scores["perplexity"] = [round(value, 1) for value in usage.perplexity]
            scores["entropy_bits"] = [round(value, 3) for value in usage.entropy_bits]
            scores["residual_energy"] = [round(value, 4) for value in energy]
        self.log.write("validation", step, **scores)
        return scores

    def _write_samples(self, number: int, step: int, clip: Tensor, audio: Tensor) -> None:
        rate = self.recipe.codec.sample_rate
        reference = self.out / "samples" / f"{number}-original.wav"
        if not reference.exists():
            write_sample(reference, clip, rate)
        write_sample(self.out / "samples" / f"{number}-step-{step:06d}.wav", audio, rate)

    def _export(self, state: RunState, settings: dict[str, Any], scores: dict[str, Any]) -> Path:
        about = {
            "recipe": settings,
            "steps": state.step,
            "training_seconds": round(state.seconds),
            "skipped_batches": state.skipped,
            "hardware": hardware(self.device),
            "data": {"seconds": round(self.training.seconds), "licences": self.training.licences},
            "torch": torch.__version__,
            "validation": scores,
        }
        folder = self.out / "model"
        card = write_card(self.recipe.name, about)
        save_codec(self.codec, folder, name=self.recipe.name, about=about, card=card, storage="float16")
        self.log.write("end", state.step, seconds=round(state.seconds), skipped=state.skipped)
        return folder


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
