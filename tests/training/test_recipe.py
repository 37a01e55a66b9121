"""Recipes: files, overrides, refusals."""

from pathlib import Path

import pytest

from vqaudio.config import ConfigError
from vqaudio.training.recipe import LossConfig, Recipe, load_recipe


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_writes_only_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "x"\n[codec.quantizer]\nnum_codebooks = 4\n')
    recipe = load_recipe(path)
    assert recipe.codec.quantizer.num_codebooks == 4  # type: ignore[union-attr]
    assert recipe.losses == Recipe(name="x").losses
    assert load_recipe(tmp_path) == recipe  # the folder stands for its recipe.toml


def test_overrides_take_dotted_names_with_dashes(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "x"\n')
    recipe = load_recipe(path, {"codec.quantizer.num-codebooks": "3", "data.gain_db": "[-1, 2]", "name": "y"})
    assert recipe.codec.quantizer.num_codebooks == 3  # type: ignore[union-attr]
    assert recipe.data.gain_db == (-1.0, 2.0)
    assert recipe.name == "y"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\n[losses]\nmell = 1.0\n', "'losses.mell' is unknown"),
        ('name = "x"\nsteps = "many"\n', "'steps': expected int, got 'many'"),
        ('name = "x"\n[codec.quantizer]\nkind = "rvq"\n', "'codec.quantizer.kind': expected one of"),
        ("steps = 3\n", "'name' is missing"),
        ('name = "x"\n[losses]\nmu_law = 1.0\n', "belong together"),
        ('name = "x"\n[data]\ncrop_seconds = 0.0\n', "must be positive"),
        ('name = "x"\nfreeze = ["decoder"]\n[stages]\ndecoder = 0.3\n', "freeze names the decoder, but stages.decoder"),
        ('name = "x"\n[report]\nvalidate_every = 0\n', "config report: .* each must be at least 1"),
        ('name = "x"\n[report]\nkeep_checkpoints = 0\n', "each must be at least 1"),
        ("name = ", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, text))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/recipe\.toml: cannot be read"):
        load_recipe(tmp_path / "nowhere/recipe.toml")


def test_magnitude_losses_wait_and_may_be_raised_for_a_while() -> None:
    losses = LossConfig(magnitudes_after=10, magnitudes_raised=(20, 30), magnitudes_raise=5.0)
    assert [losses.magnitudes_at(step) for step in (0, 9, 10, 19, 20, 29, 30)] == [0.0, 0.0, 1.0, 1.0, 5.0, 5.0, 1.0]
    assert LossConfig().magnitudes_at(0) == 1.0
