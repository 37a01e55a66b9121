"""The training procedure, on one page: crops -> codec -> losses -> step, with validation, checkpoints and resume."""

import platform
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vqaudio.checkpoint import save_codec
from vqaudio.config import to_dict
from vqaudio.data.crops import Batch, CropSampler, prefetch, validation_clips
from vqaudio.data.packed import PackedAudio
from vqaudio.losses.reconstruction import si_sdr
from vqaudio.quantize import CodeUsage
from vqaudio.training.card import write_card
from vqaudio.training.log import Meter, ProgressLine, RunLog, write_sample
from vqaudio.training.recipe import Recipe
from vqaudio.training.state import RunState, checkpoints, load_checkpoint, save_checkpoint
from vqaudio.training.step import Objective, StepResult, dropped_codebooks, learning_rate, train_step

# A budget in minutes becomes a number of steps after this many; the first of them warm caches up and do not count.
MEASURED_STEPS, UNMEASURED_STEPS = 30, 10
# Batches skipped in a row before the run gives up: past this the model itself has gone, not a file.
MOST_SKIPPED_IN_A_ROW = 50


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
        # a budget in minutes has no number of steps yet: 0
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
        if state.total_steps == 0:
            assert minutes is not None
            self._measure_budget(state, minutes)
        self._advance(state, state.total_steps, settings)
        self._checkpoint(state, settings)
        return self._export(state, settings, self._validate(state.step))

    def _measure_budget(self, state: RunState, minutes: float) -> None:
        """Train the first steps and turn the minutes into steps by their pace. 6 % is for validation and the like."""
        self._advance(state, UNMEASURED_STEPS, None)
        started = time.monotonic()
        self._advance(state, MEASURED_STEPS, None)
        per_step = (time.monotonic() - started) / (MEASURED_STEPS - UNMEASURED_STEPS)
        state.total_steps = max(MEASURED_STEPS + 1, int(minutes * 60.0 * 0.94 / per_step))
        self.log.write("budget", state.step, total_steps=state.total_steps, step_seconds=round(per_step, 4))

    def _advance(self, state: RunState, until: int, settings: dict[str, Any] | None) -> None:
        """Train to step `until`; checkpoints are written only once the budget is known, that is with `settings`."""
        report, meter, progress = self.recipe.report, Meter(), ProgressLine(until)
        skipped_in_a_row = 0
        batches = prefetch(self.sampler, state.step, until)
        while state.step < until:
            with meter.waiting():
                batch = next(batches)
            if state.step == self.recipe.quantizer.quantize_after:
                self._fit_quantizer()
            with meter.working():
                result = self._step(batch, state)
            if result.ok:
                skipped_in_a_row = 0
                meter.add(result.parts)
            else:
                state.skipped += 1
                skipped_in_a_row += 1
                self.log.write("skipped", state.step, names=list(batch.names), reason="not finite")
                if skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
                    raise RuntimeError(f"{skipped_in_a_row} batches in a row were not finite; see {self.log.path}")
            state.step += 1
            if state.step % report.log_every == 0 or state.step == until:
                self._log_training(state, meter, result.stats)
                progress.update(state.step, f"loss {meter.mean('loss'):.3f}")
                meter = Meter()
            if state.step % report.validate_every == 0 and state.step < until:
                self._validate(state.step)
            if settings is not None and state.step % report.checkpoint_every == 0 and state.step < until:
                self._checkpoint(state, settings)
        progress.close()

    def _checkpoint(self, state: RunState, settings: dict[str, Any]) -> None:
        keep = self.recipe.report.keep_checkpoints
        save_checkpoint(self.out, state, self.codec, self.optimizer, recipe=settings, keep=keep)

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
            magnitudes=recipe.losses.magnitudes_at(step),
            clip_norm=recipe.optimizer.clip_norm,
        )

    @torch.no_grad()
    def _fit_quantizer(self) -> None:
        # another seed: these crops are looked at, not trained on
        sampler = self._sampler(self.recipe.seed + 1)
        batches = (sampler.batch(index).audio.to(self.device) for index in range(self.recipe.quantizer.fit_batches))
        latents = [self.codec.encode_latents(audio).transpose(1, 2).flatten(0, 1) for audio in batches]
        self.codec.quantizer.fit(torch.cat(latents), generator=torch.Generator().manual_seed(self.recipe.seed))

    def _log_training(self, state: RunState, meter: Meter, stats: dict[str, Tensor]) -> None:
        state.seconds += meter.waited + meter.worked
        self.log.write(
            "train",
            state.step,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=round(state.seconds, 1),
            step_seconds=round(meter.worked / meter.steps, 4),
            data_wait_seconds=round(meter.waited / meter.steps, 5),
            **{name: round(meter.mean(name), 5) for name in meter.sums},
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
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads != 1)}"


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"CPU ({platform.machine()})"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"CPU ({platform.machine()})"
