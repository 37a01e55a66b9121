"""Starting from a model: which of its parts a recipe takes over, and what the new model says of where it comes from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vqaudio.checkpoint import ModelInfo, load_codec
from vqaudio.models import Codec, CodecConfig
from vqaudio.shipped import find_model
from vqaudio.training.recipe import Part, Recipe


@dataclass(frozen=True)
class Parent:
    codec: Codec
    info: ModelInfo
    parts: tuple[Part, ...]  # taken over from it

    def record(self) -> dict[str, Any]:
        """For the new model's `about`: the parent by its fingerprints, with its own training and its own parent."""
        about = self.info.about
        kept = ("steps", "training_seconds", "hardware", "data", "parent")
        return {
            "name": self.info.name,
            "token_fingerprint": self.info.token_fingerprint,
            "model_fingerprint": self.info.model_fingerprint,
            "storage": self.info.storage,
            "parts": list(self.parts),
            **{key: about[key] for key in kept if key in about},
        }

    def hand_over(self, codec: Codec) -> None:
        """Put the parts taken over into `codec`."""
        for part in self.parts:
            getattr(codec, part).load_state_dict(getattr(self.codec, part).state_dict())


def find_parent(name_or_folder: str | Path, recipe: Recipe) -> tuple[Parent, Recipe]:
    """The model to begin from, and the recipe with its codec.

    A recipe whose codec is the default takes the parent's. Any other has to agree with it in rate, encoder and
    quantiser; its decoder may differ if encoder and quantiser are frozen: then a new decoder is trained for the
    parent's tokens. ValueError names what differs.
    """
    codec, info = load_codec(find_model(str(name_or_folder)))
    wanted, found = recipe.codec, codec.config
    if wanted == CodecConfig():
        wanted = found
    different = [
        f"{name} = {getattr(wanted, name)!r}, the model has {getattr(found, name)!r}"
        for name in ("sample_rate", "output", "encoder", "quantizer")
        if getattr(wanted, name) != getattr(found, name)
    ]
    parts: tuple[Part, ...] = ("encoder", "quantizer", "decoder")
    if wanted.decoder != found.decoder:
        if {"encoder", "quantizer"} <= set(recipe.freeze):
            parts = ("encoder", "quantizer")
        else:
            different.append(f"decoder = {wanted.decoder!r}, the model has {found.decoder!r}")
    if different:
        raise ValueError(
            f"recipe {recipe.name!r} cannot begin from {name_or_folder}: its codec has {'; '.join(different)}. Leave "
            "the codec out of the recipe to take the model's; to train a new decoder for the model's tokens, set "
            "freeze = ['encoder', 'quantizer']"
        )
    return Parent(codec, info, parts), replace(recipe, codec=wanted)


def storage_of(recorded: dict[str, Any] | None) -> Literal["float16", "float32"]:
    """How a model with this parent is stored: as the parent, or tokens kept would have another fingerprint."""
    return "float32" if recorded and recorded["storage"] == "float32" else "float16"
