"""How fast a recipe trains here: a few steps of it, at full batch and width, as it will be once it is under way.

What a run does later is done from the first step on: everything is quantised, all losses count, and the stage asked for
is the only one. The times are those of the run's own log; the run itself is thrown away.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from vqaudio.data.crops import CropSampler
from vqaudio.data.packed import PackedAudio
from vqaudio.training.log import LOG_NAME
from vqaudio.training.loop import train
from vqaudio.training.recipe import STAGES, Recipe, Stage, StagesConfig

FIT_BATCHES = 4  # k-means has to run; how good its codebooks are does not change what a step costs
TIMED_BATCHES = 3  # made alone, after a first that does not count


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Medians over the measured steps; `loss` is that of the last."""

    stage: Stage
    steps: int  # measured
    step_seconds: float
    data_wait_seconds: float  # of each step
    batch_seconds: float  # that making one batch takes, with nothing else going on: bounds the wait of a long run
    loss: float

    @property
    def data_share(self) -> float:
        """Of the time, that spent waiting for data."""
        return self.data_wait_seconds / (self.step_seconds + self.data_wait_seconds)

    @property
    def steps_per_second(self) -> float:
        return 1.0 / (self.step_seconds + self.data_wait_seconds)


def stages_of(recipe: Recipe) -> list[Stage]:
    """Those that it goes through."""
    return [stage for stage in STAGES if recipe.stages.shares()[stage] > 0]


def rehearse(
    recipe: Recipe,
    packs: str | Path,
    *,
    stage: Stage,
    steps: int = 30,
    unmeasured: int = 10,
    device: str = "cpu",
    init_from: str | Path | None = None,
) -> Pace:
    """Train `steps` steps of one stage in a temporary folder; the first `unmeasured` warm up and do not count."""
    if not 0 < unmeasured < steps:
        raise ValueError(f"of {steps} steps, {unmeasured} are not to be measured; at least one each way is wanted")
    rehearsed = replace(
        recipe,
        stages=StagesConfig(**{name: float(name == stage) for name in STAGES}),
        quantizer=replace(recipe.quantizer, quantize_after=0, fit_batches=FIT_BATCHES),
        losses=replace(recipe.losses, magnitudes_after=0),
        report=replace(
            recipe.report, log_every=1, validate_every=steps, checkpoint_every=steps, validation_clips=1, num_samples=0
        ),
    )
    with tempfile.TemporaryDirectory(prefix="vqaudio-rehearsal-") as folder:
        train(rehearsed, packs, folder, steps=steps, device=device, init_from=init_from)
        lines = [json.loads(line) for line in (Path(folder) / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    measured = [line for line in lines if line["kind"] == "train" and line["step"] > unmeasured and "loss" in line]
    if not measured:
        raise ValueError(f"recipe {recipe.name!r}, stage {stage}: no measured step had finite losses")
    return Pace(
        stage=stage,
        steps=len(measured),
        step_seconds=statistics.median(line["step_seconds"] for line in measured),
        data_wait_seconds=statistics.median(line["data_wait_seconds"] for line in measured),
        batch_seconds=_batch_seconds(recipe, packs),
        loss=measured[-1]["loss"],
    )


def _batch_seconds(recipe: Recipe, packs: str | Path) -> float:
    sampler = CropSampler(
        PackedAudio(packs, "train"),
        crop_samples=recipe.crop_samples,
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
    )
    times = []
    for step in range(1 + TIMED_BATCHES):
        started = time.perf_counter()
        sampler.batch(step)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
