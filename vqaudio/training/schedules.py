"""What depends on the step alone, or on (seed, item): learning rates, stages' ramps, dropped codebooks."""

import math

import numpy as np
import torch
from torch import Tensor

from vqaudio.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Of the codec: linear warm-up, a plateau, and a cosine to `final_fraction` at the end of the budget."""
    config = recipe.optimizer
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.learning_rate * warmup * _cosine(recipe, step, total_steps)


def discriminator_learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Of the discriminators: linear warm-up from their first step, then as the codec's."""
    return (
        recipe.adversarial.learning_rate
        * adversarial_ramp(recipe, step, total_steps)
        * _cosine(recipe, step, total_steps)
    )


def adversarial_ramp(recipe: Recipe, step: int, total_steps: int) -> float:
    """From nearly 0 at the discriminators' first step to 1: until they have learned something, what they say to the
    codec is noise."""
    since = step - recipe.stages.first_steps(total_steps)["adversarial"]
    return min(1.0, (since + 1) / max(recipe.adversarial.warmup_steps, 1))


def _cosine(recipe: Recipe, step: int, total_steps: int) -> float:
    plateau, final = recipe.optimizer.plateau, recipe.optimizer.final_fraction
    begin, end = recipe.stages.span(step, total_steps) if recipe.optimizer.cosine == "stage" else (0, total_steps)
    progress = max(0.0, min((step - begin) / (end - begin), 1.0) - plateau) / (1.0 - plateau)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


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
