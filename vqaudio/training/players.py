"""Who learns in a run: codec and discriminators with their optimisers, and which parts of the codec are held still."""

import torch

from vqaudio.discriminators import STFTDiscriminator
from vqaudio.training.average import Average
from vqaudio.training.parent import Parent
from vqaudio.training.recipe import AdversarialConfig, OptimizerConfig, Recipe, Stage
from vqaudio.training.state import Learners
from vqaudio.training.step import Player


def build_learners(recipe: Recipe, parent: Parent | None, device: torch.device) -> Learners:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        codec = recipe.codec.build()
        discriminators = recipe.adversarial.build() if recipe.stages.plays else None
    if parent:
        parent.hand_over(codec)
    average = Average(codec.to(device), recipe.optimizer.average_decay)
    if recipe.compute.compile:
        for module in discriminators.modules() if discriminators else ():
            if isinstance(module, STFTDiscriminator):  # the compiler has no complex numbers
                setattr(module, "spectrum", torch.compiler.disable(module.spectrum))  # noqa: B010 (mypy: a method)
        for network in filter(None, (codec.encoder, codec.decoder, discriminators)):
            network.compile()
    judges = None if discriminators is None else player_of(discriminators.to(device), recipe.adversarial)
    return Learners(player_of(codec.train(), recipe.optimizer), average, judges)


def player_of(network: torch.nn.Module, config: OptimizerConfig | AdversarialConfig) -> Player:
    decay = config.weight_decay if isinstance(config, OptimizerConfig) else 0.0
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=decay, fused=True
    )
    return Player(network, optimizer, config.clip_norm)


def set_rate(player: Player, rate: float) -> None:
    for group in player.optimizer.param_groups:
        group["lr"] = rate


def frozen_parts(recipe: Recipe, stage: Stage) -> set[str]:
    """What does not learn in a stage: encoder, quantizer, decoder."""
    return {*recipe.freeze, *({"encoder", "quantizer"} if stage == "decoder" else ())}


def freeze(codec: torch.nn.Module, parts: set[str]) -> None:
    """`parts` keep their weights: no gradient reaches them, and codebooks in evaluation mode learn nothing."""
    codec.train()
    for name in ("encoder", "quantizer", "decoder"):
        part = codec.get_submodule(name)
        part.requires_grad_(name not in parts)
        part.train(name not in parts)
