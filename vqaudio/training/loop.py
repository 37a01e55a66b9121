"""The training procedure: crops -> codec -> losses -> step, stage by stage, with validation, checkpoints and resume."""

import copy
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vqaudio import ranks
from vqaudio.config import to_dict
from vqaudio.data.crops import Batch, CropSampler, prefetch
from vqaudio.data.packed import PackedAudio
from vqaudio.training.distributed import joined
from vqaudio.training.export import export
from vqaudio.training.health import Finding, HealthCheck
from vqaudio.training.log import Meter, ProgressLine, RunLog
from vqaudio.training.parent import Parent, find_parent, storage_of
from vqaudio.training.players import build_learners, freeze, frozen_parts, player_of, set_rate
from vqaudio.training.recipe import STAGES, Recipe, Stage
from vqaudio.training.resuming import check_budget, same_run
from vqaudio.training.schedules import (
    adversarial_ramp,
    discriminator_learning_rate,
    dropped_codebooks,
    learning_rate,
)
from vqaudio.training.state import Checkpoint, RunState, checkpoints, newest_checkpoint, save_checkpoint
from vqaudio.training.step import Objective, Plan, StepResult, train_step
from vqaudio.training.stopping import RunFailedError, RunStoppedError, StopRequest
from vqaudio.training.validation import Validator

# A budget in minutes becomes a number of steps after this many; the first of them warm caches up and do not count.
MEASURED_STEPS, UNMEASURED_STEPS = 30, 10
REHEARSED_STEPS = 5  # of each stage to come, of which the first does not count
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
    init_from: str | Path | None = None,
    device: str = "cpu",
) -> Path:
    """Train `recipe` on a pack folder; returns the model folder `out/model`.

    `out` holds log.jsonl, samples/, checkpoint-*/, best/ (the model of the last stage with the lowest reconstruction
    loss on validation audio) and in the end model/. A budget in minutes becomes steps after 30 measured ones and is
    stored, so that a resumed run follows the same schedule. With resume="auto" the newest whole checkpoint is
    continued, or a new run begun if there is none; without, a folder that holds a run is refused. `init_from` names a
    model, shipped or a folder, to begin from (see `find_parent`). SIGTERM and Ctrl-C save a checkpoint, then
    RunStoppedError is raised.

    Under torchrun the processes share every batch out (see `vqaudio.ranks`); `out` must be the same folder for all.
    """
    if steps is not None and minutes is not None:
        raise ValueError("give a budget in steps or in minutes, not both")
    if (steps is not None and steps < 1) or (minutes is not None and not 0 < minutes < math.inf):
        raise ValueError(f"the budget must be positive, got {steps if steps is not None else minutes}")
    out = Path(out)
    if resume == "never" and checkpoints(out):
        raise ValueError(f"{out} already holds a run; continue it with --resume auto, or choose another --out")
    parent = None
    if init_from is not None:
        parent, recipe = find_parent(init_from, recipe)
    training, validation = PackedAudio(packs, "train"), PackedAudio(packs, "valid")
    if training.sample_rate != recipe.codec.sample_rate:
        raise ValueError(
            f"{packs}: packed at {training.sample_rate} Hz, but recipe {recipe.name!r} wants "
            f"{recipe.codec.sample_rate} Hz"
        )
    with joined(device) as place:
        checkpoint, damaged = newest_checkpoint(out) if resume == "auto" else (None, [])
        if checkpoint is not None:
            recipe = same_run(checkpoint, recipe, parent, training, steps=steps, minutes=minutes)
        elif damaged:
            raise ValueError(
                f"{out} holds a run of which no checkpoint can be read: {'; '.join(damaged)}. Delete these to begin "
                "anew, or choose another --out"
            )
        elif (out / "model").exists():
            raise ValueError(f"{out} holds a finished run, but no checkpoint of it; choose another --out")
        elif recipe.freeze and parent is None:
            raise ValueError(
                f"recipe {recipe.name!r} freezes {', '.join(recipe.freeze)}; say by --init-from of which model"
            )
        elif minutes is None and parent is None:
            check_budget(recipe, steps or recipe.steps)
        ranks.wait_for_all()  # nobody writes before everybody has looked
        out.mkdir(parents=True, exist_ok=True)
        (out / "samples").mkdir(exist_ok=True)
        run = Run(recipe, training, validation, out, place, parent)
        run.begin(steps=steps, minutes=minutes, checkpoint=checkpoint, damaged=damaged)
        return run.go(minutes)


class Run:
    """One training run: what `train` sets up, and the loop."""

    def __init__(
        self,
        recipe: Recipe,
        training: PackedAudio,
        validation: PackedAudio,
        out: Path,
        device: torch.device,
        parent: Parent | None = None,
    ) -> None:
        self.recipe, self.out, self.device, self.training = recipe, out, device, training
        self.settings = to_dict(recipe)
        self.parent = parent.record() if parent else None
        self.objective = Objective(recipe.losses, recipe.codec.sample_rate, game=recipe.adversarial.game).to(device)
        self.learners = build_learners(recipe, parent, device)
        self.sampler = self._sampler(recipe.seed, ranks.rank(), ranks.count())
        self.validator = Validator(
            validation, recipe.report, self.objective, sample_rate=recipe.codec.sample_rate, folder=out / "samples"
        )
        self.log = RunLog(out, enabled=ranks.rank() == 0)
        self.health = HealthCheck.of(self.settings, num_frames=self.validator.num_frames(recipe.codec.hop_length))
        self.stage: Stage | None = None
        self.request = StopRequest()
        self._spare_the_start(self.parent is not None)

    def _spare_the_start(self, has_parent: bool) -> None:
        """A codec that begins from a model needs none of what helps a random one to its feet: it has codebooks."""
        self.from_random = not has_parent
        self.quantize_after = self.recipe.quantizer.quantize_after if self.from_random else 0

    def _sampler(self, seed: int, rank: int, num_ranks: int) -> CropSampler:
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
            rank=rank,
            num_ranks=num_ranks,
        )

    # ---- from the first step to the model

    def begin(
        self, *, steps: int | None, minutes: float | None, checkpoint: Checkpoint | None, damaged: list[str]
    ) -> None:
        if checkpoint is not None:
            self.state = checkpoint.state
            self.parent = checkpoint.parent
            self._spare_the_start(self.parent is not None)
            self.learners.restore(checkpoint.files)
            self.log.truncate_after(self.state.step, self.state.logged)
            self.log.write("resume", self.state.step, damaged=damaged)
            return
        # a budget in minutes has no number of steps yet: 0
        total_steps = steps or (0 if minutes else self.recipe.steps)
        self.state = RunState(step=0, total_steps=total_steps, seconds=0.0, skipped=0, minutes=minutes)
        parameters = sum(parameter.numel() for parameter in self.learners.trained.parameters())
        self.log.truncate_after(-1)
        self.log.write(
            "start",
            0,
            recipe=self.settings,
            parameters=parameters,
            total_steps=total_steps,
            parent=self.parent,
            ranks=ranks.count(),
        )

    def go(self, minutes: float | None) -> Path:
        with self.request.listening():
            if self.state.total_steps == 0:
                assert minutes is not None
                self._measure_budget(minutes)
            self._advance(self.state.total_steps)
        self._checkpoint()
        if ranks.rank() == 0:
            scores = self._validate()
            self._export(self.out / "model", scores)
            self.log.write("end", self.state.step, seconds=round(self.state.seconds), skipped=self.state.skipped)
        ranks.wait_for_all()
        return self.out / "model"

    def _measure_budget(self, minutes: float) -> None:
        """Train the first steps and turn the minutes into steps by their pace. 6 % is for validation and the like.

        Steps before codes are learned take less time than all others, on a GPU less than half.
        """
        self._advance(UNMEASURED_STEPS)
        started = time.monotonic()
        self._advance(MEASURED_STEPS)
        now = (time.monotonic() - started) / (MEASURED_STEPS - UNMEASURED_STEPS)
        assert self.stage is not None
        bare = self.quantize_after if self.quantize_after > UNMEASURED_STEPS else 0
        paces = [now if stage == self.stage and not bare else self._rehearse(stage) for stage in STAGES]
        shares = self.recipe.stages.shares()
        mean = sum(shares[stage] * pace for stage, pace in zip(STAGES, paces, strict=True))
        saved = bare * (paces[STAGES.index(self.stage)] - now)
        clock = torch.tensor([mean, saved], device=self.device)
        ranks.send_from_first([clock])  # clocks differ; the budget must not
        mean, saved = clock.tolist()
        self.state.total_steps = max(MEASURED_STEPS + 1, int((minutes * 60.0 * 0.94 + saved) / mean))
        seconds = {stage: round(pace, 4) for stage, pace in zip(STAGES, paces, strict=True) if shares[stage] > 0}
        before = {"before_quantizing_seconds": round(now, 4)} if bare else {}
        self.log.write("budget", self.state.step, total_steps=self.state.total_steps, step_seconds=seconds, **before)
        if self.from_random:
            check_budget(self.recipe, self.state.total_steps)

    def _rehearse(self, stage: Stage) -> float:
        """Seconds of a step of a stage, with codes, on average over steps with and without a game."""
        if self.recipe.stages.shares()[stage] == 0:
            return 0.0
        if stage == "reconstruction":
            return self._timed(stage, play=False)
        every, game = self.recipe.adversarial.every, self._timed(stage, play=True)
        return game if every == 1 else (game + (every - 1) * self._timed(stage, play=False)) / every

    def _timed(self, stage: Stage, *, play: bool) -> float:
        """Seconds of a step, taken with copies that are thrown away."""
        codec = copy.deepcopy(self.learners.trained)
        freeze(codec, frozen_parts(self.recipe, stage))
        players = [player_of(codec, self.recipe.optimizer)]
        if self.learners.discriminators is not None:
            judges = copy.deepcopy(self.learners.discriminators.network)
            players.append(player_of(judges, self.recipe.adversarial))
        audio = self.sampler.batch(0).audio.to(self.device)
        generator, started = torch.Generator(), 0.0
        for number in range(REHEARSED_STEPS):
            if number == 1:
                started = time.monotonic()
            plan = Plan(play=play, precision=self._precision)
            train_step(
                players[0], self.objective, audio, plan, discriminators=players[-1], generator=generator.manual_seed(0)
            )
        return (time.monotonic() - started) / (REHEARSED_STEPS - 1)

    def _advance(self, until: int) -> None:
        """Train to step `until`. Checkpoints are written, and stops obeyed, only once the budget is known."""
        state, report = self.state, self.recipe.report
        meter, progress, skipped_in_a_row = Meter(), ProgressLine(until, enabled=ranks.rank() == 0), 0
        batches = prefetch(self.sampler, state.step, until)
        while state.step < until:
            self._enter_stage()
            with meter.waiting():
                batch = next(batches)
            if self.from_random and state.step == self.quantize_after:
                self._fit_quantizer()
            with meter.working():
                result = self._step(batch, state)
            if result.ok:
                skipped_in_a_row = 0
                meter.add(result.parts)
                self.learners.average.update(self.learners.trained, state.step + 1)
            else:
                state.skipped += 1
                skipped_in_a_row += 1
                self.log.write("skipped", state.step, names=list(batch.names), reason="not finite")
                self._warn(self.health.skipped(state.step))
                if skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
                    raise RunFailedError(f"{skipped_in_a_row} batches in a row were not finite; see {self.log.path}")
            state.step += 1
            if state.step % report.log_every == 0 or state.step == until:
                self._log_training(meter, result.stats)
                progress.update(state.step, f"{self.stage} loss {meter.mean('loss'):.3f}")
                meter = Meter()
            if state.step < until:
                if state.step % report.validate_every == 0 and ranks.rank() == 0:
                    self._validate()
                if state.total_steps:
                    self._save_or_stop()
        progress.close()

    def _save_or_stop(self) -> None:
        stopping = not ranks.agreed(not self.request.signal_number, device=self.device)
        if stopping or self.state.step % self.recipe.report.checkpoint_every == 0:
            self._checkpoint()
        if stopping:
            raise RunStoppedError(
                f"stopped after step {self.state.step} of {self.state.total_steps}, which is saved in {self.out}; "
                "--resume auto goes on",
                self.request.signal_number,
            )

    # ---- stages

    def _enter_stage(self) -> None:
        """At the first step of a stage, or at the first after a resume, see to it who learns."""
        state, stages = self.state, self.recipe.stages
        total = state.total_steps or 10**9  # before the budget is known the run is in its first stage
        stage = stages.at(state.step, total)
        if stage == self.stage:
            return
        # a short budget in minutes may turn out to have left a stage behind while it was measured: begin the next late
        begins = self.stage is not None or state.step == stages.first_steps(total)[stage]
        codec = self.learners.trained
        if begins:
            state.best = None  # each stage has another aim
            self.log.write("stage", state.step, name=stage)
        if begins and stage == "decoder":
            self._settle_tokens()
        freeze(codec, frozen_parts(self.recipe, stage))
        self.stage = stage

    @torch.no_grad()
    def _settle_tokens(self) -> None:
        """From here on the decoder learns to read the codes that ship: those of the averaged weights, as stored."""
        average = self.learners.average.codec
        if storage_of(self.parent) == "float16":  # which parts kept from a parent were in before
            for part in (average.encoder, average.quantizer):
                for name, value in part.state_dict().items():
                    if not name.endswith(("ema_counts", "ema_sums")):
                        value.copy_(value.half())
        self.learners.trained.load_state_dict(average.state_dict())

    @property
    def _precision(self) -> torch.dtype:
        return torch.bfloat16 if self.recipe.compute.precision == "bfloat16" else torch.float32

    def _step(self, batch: Batch, state: RunState) -> StepResult:
        recipe, step, learners = self.recipe, state.step, self.learners
        total = state.total_steps or 10**9
        set_rate(learners.codec, learning_rate(recipe, step, total))
        if learners.discriminators is not None:
            set_rate(learners.discriminators, discriminator_learning_rate(recipe, step, total))
        codec = learners.trained
        mine = ranks.share(recipe.data.batch_size)
        B = recipe.data.batch_size
        plan = Plan(
            num_codebooks=dropped_codebooks(recipe, step * B, B, len(codec.codebook_sizes))[mine],
            quantize=step >= self.quantize_after,
            magnitudes=recipe.losses.magnitudes_at(step) if self.from_random else 1.0,
            play=self.stage != "reconstruction" and step % recipe.adversarial.every == 0,
            ramp=adversarial_ramp(recipe, step, total),
            precision=self._precision,
        )
        return train_step(
            learners.codec,
            self.objective,
            batch.audio.to(self.device),
            plan,
            discriminators=learners.discriminators,
            generator=torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) % 2**63),
            weight=len(batch.audio) / B,
        )

    @torch.no_grad()
    def _fit_quantizer(self) -> None:
        """k-means on latents gathered in rank order, computed by the first rank, the same on all."""
        # another seed: these crops are looked at, not trained on
        sampler = self._sampler(self.recipe.seed + 1, 0, 1)
        codec = self.learners.trained
        mine = range(self.recipe.quantizer.fit_batches)[ranks.share(self.recipe.quantizer.fit_batches)]
        batches: Iterator[Tensor] = (sampler.batch(index).audio.to(self.device) for index in mine)
        latents = [codec.encode_latents(audio).transpose(1, 2).flatten(0, 1) for audio in batches]
        rows = ranks.gathered(torch.cat(latents or [torch.zeros(0, codec.quantizer.dim, device=self.device)]))
        if ranks.rank() == 0:
            codec.quantizer.fit(rows, generator=torch.Generator().manual_seed(self.recipe.seed))
        ranks.send_from_first(list(codec.quantizer.state_dict().values()))
        self.learners.average.codec.quantizer.load_state_dict(codec.quantizer.state_dict())

    # ---- what it leaves

    def _log_training(self, meter: Meter, stats: dict[str, Tensor]) -> None:
        self.state.seconds += meter.waited + meter.worked
        values = {
            "learning_rate": self.learners.codec.optimizer.param_groups[0]["lr"],
            "seconds": round(self.state.seconds, 1),
            "step_seconds": round(meter.worked / meter.steps, 4),
            "data_wait_seconds": round(meter.waited / meter.steps, 5),
            **{name: round(meter.mean(name), 5) for name in meter.sums},
            **{name: [round(float(v), 4) for v in value] for name, value in stats.items()},
        }
        self.log.write("train", self.state.step, **values)
        self._warn(self.health.training(self.state.step, values))

    def _warn(self, findings: list[Finding]) -> None:
        """What looks wrong goes to the log, and to whoever watches."""
        for finding in findings:
            self.log.write(
                "warning", self.state.step, name=finding.name, message=finding.message, remedy=finding.remedy
            )
            if ranks.rank() == 0:
                sys.stderr.write(f"\n! step {self.state.step:,}, {finding.name}: {finding.message}. {finding.remedy}\n")

    def _validate(self) -> dict[str, Any]:
        """Score the averaged codec, and keep it as `best/` if it reconstructs best in the stage so far."""
        codec, step = self.learners.average.codec, self.state.step
        scores = self.validator.scores(codec, step, quantize=step > self.quantize_after, device=self.device)
        self.log.write("validation", step, **scores)
        self._warn(self.health.validation(step, scores))
        best, score = self.state.best, scores["reconstruction"]
        if math.isfinite(score) and step > self.quantize_after and (best is None or score < best):
            self.state.best = score
            self._export(self.out / "best", scores)
        return scores

    def _checkpoint(self) -> None:
        if ranks.rank() == 0:
            keep = self.recipe.report.keep_checkpoints
            self.state.logged = self.log.size
            save_checkpoint(
                self.out,
                self.state,
                self.learners,
                settings=self.settings,
                parent=self.parent,
                packs=self.training.inputs,
                keep=keep,
            )
        ranks.wait_for_all()

    def _export(self, folder: Path, scores: dict[str, Any]) -> None:
        export(
            self.learners.average.codec,
            folder,
            state=self.state,
            settings=self.settings,
            parent=self.parent,
            training=self.training,
            device=self.device,
            scores=scores,
        )
