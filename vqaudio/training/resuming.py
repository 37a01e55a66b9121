"""What is looked at before a run begins or goes on: whether its budget makes sense, and whether it is the same run."""

from dataclasses import replace

from vqaudio.config import from_dict, to_dict
from vqaudio.data.packed import PackedAudio
from vqaudio.models import CodecConfig
from vqaudio.training.history import flat
from vqaudio.training.parent import Parent
from vqaudio.training.recipe import Recipe
from vqaudio.training.state import Checkpoint


def check_budget(recipe: Recipe, total_steps: int) -> None:
    """From random weights: codebooks have to learn at all, and before the stage in which nothing else moves."""
    after, decoder = recipe.quantizer.quantize_after, recipe.stages.first_steps(total_steps)["decoder"]
    if min(total_steps - 1, decoder) < after:
        raise ValueError(
            f"of {total_steps} steps the encoder learns in {decoder}, but quantizer.quantize_after is {after}: the "
            "codebooks would be random numbers. Lower it, or give more steps"
        )


def same_run(
    checkpoint: Checkpoint,
    recipe: Recipe,
    parent: Parent | None,
    training: PackedAudio,
    *,
    steps: int | None,
    minutes: float | None,
) -> Recipe:
    """The recipe, if it is that of the checkpoint: another would silently train something else."""
    out, begun, state = checkpoint.path.parent, checkpoint.parent, checkpoint.state
    if begun is not None and recipe.codec == CodecConfig():  # which stands for the parent's
        recipe = replace(recipe, codec=from_dict(CodecConfig, checkpoint.settings["codec"]))
    if checkpoint.settings != to_dict(recipe):
        ours, theirs = dict(flat(to_dict(recipe))), dict(flat(checkpoint.settings))
        different = [name for name in ours | theirs if name not in ours or theirs.get(name, ...) != ours[name]]
        raise ValueError(
            f"{checkpoint.path} was made with other settings ({', '.join(different)}); resume with the same recipe or "
            "choose another --out"
        )
    if checkpoint.packs != training.inputs:
        raise ValueError(f"{out} was begun with other packs than those in {training.folder}; resume with the same")
    if parent is not None and parent.info.model_fingerprint != (begun or {}).get("model_fingerprint"):
        begun_with = begun["name"] if begun else "random weights"
        raise ValueError(f"{out} was begun from {begun_with}; it cannot resume from {parent.info.name}")
    if steps is not None and steps != state.total_steps:
        raise ValueError(f"{out} was begun for {state.total_steps} steps; it cannot resume for {steps}")
    if minutes is not None and minutes != state.minutes:
        given = f"{state.total_steps} steps" if state.minutes is None else f"{state.minutes:g} minutes"
        raise ValueError(f"{out} was begun for {given}; it cannot resume for {minutes:g} minutes")
    return recipe
