"""Beginning from a model: its codes stay what they were where its encoder and quantiser are kept, and it is named."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_loop import lines, tensors
from tests.training.test_stages import staged
from vqaudio import AudioTokenizer
from vqaudio.checkpoint import load_codec, save_codec
from vqaudio.config import to_dict
from vqaudio.models import CodecConfig
from vqaudio.training.loop import Run, train
from vqaudio.training.recipe import Recipe, StagesConfig, load_recipe

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"


@pytest.fixture(scope="module")
def parent(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parent") / "run"
    return train(dataclasses.replace(staged(), steps=12), packs, out)


def kept(**changes: Any) -> Recipe:
    return dataclasses.replace(staged(), name="child", seed=8, steps=12, freeze=("encoder", "quantizer"), **changes)


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_child_that_keeps_encoder_and_quantiser_reads_its_parents_codes(
    storage: Any, parent: Path, packs: Path, tmp_path: Path
) -> None:
    if storage == "float32":  # weights that float16 would round
        codec, info = load_codec(parent)
        with torch.no_grad():
            for value in codec.parameters():
                value.mul_(1.0 + 2.0**-13)
        parent = tmp_path / "float32"
        save_codec(codec, parent, name="tiny", about=info.about, card="", storage="float32")
    child = train(kept(), packs, tmp_path / "run", init_from=parent)
    before, after = AudioTokenizer.from_pretrained(str(parent)), AudioTokenizer.from_pretrained(str(child))
    assert after.info.token_fingerprint == before.info.token_fingerprint
    assert after.info.model_fingerprint != before.info.model_fingerprint
    clip = SAMPLES / "english-2.flac"
    codes = before.encode(clip)
    assert after.encode(clip) == codes
    assert not torch.equal(after.decode(codes), before.decode(codes))  # the decoder did learn

    record = after.info.about["parent"]
    assert record["name"] == "tiny" and record["steps"] == 12 and record["storage"] == storage
    assert record["token_fingerprint"] == before.info.token_fingerprint
    assert record["model_fingerprint"] == before.info.model_fingerprint
    assert record["parts"] == ["encoder", "quantizer", "decoder"]
    assert "a fine-tune of `tiny`" in (child / "card.md").read_text()


def test_codebooks_that_learn_over_a_kept_encoder_are_settled_as_they_ship(
    parent: Path, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage of the decoder reads the codes that are stored, whichever parts were kept before it."""
    recipe = dataclasses.replace(staged(), steps=4, freeze=("encoder",), stages=StagesConfig(adversarial=1, decoder=1))
    read: dict[str, torch.Tensor] = {}
    step = Run._step

    def watched(self: Run, batch: Any, state: Any) -> Any:
        result = step(self, batch, state)
        read.update({name: value.clone() for name, value in self.learners.trained.quantizer.state_dict().items()})
        return result

    monkeypatch.setattr(Run, "_step", watched)
    shipped, _ = load_codec(train(recipe, packs, tmp_path / "run", init_from=parent))
    for name, value in shipped.quantizer.state_dict().items():
        assert name.endswith(("ema_counts", "ema_sums")) or torch.equal(value, read[name]), name


def test_a_child_that_learns_everything_begins_where_its_parent_ended(
    parent: Path, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    step = Run._step

    def watched(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 0:
            seen.update({name: value.clone() for name, value in self.learners.trained.state_dict().items()})
        result = step(self, batch, state)
        seen["revived"] = result.stats["revived"]  # there from the first step: it quantises at once
        return result

    monkeypatch.setattr(Run, "_step", watched)
    child = train(dataclasses.replace(staged(), steps=2), packs, tmp_path / "run", init_from=parent)
    first, _ = load_codec(parent)
    assert all(torch.equal(value, seen[name]) for name, value in first.state_dict().items())
    assert len(seen["revived"]) == 3
    assert load_codec(child)[1].token_fingerprint != load_codec(parent)[1].token_fingerprint


def test_a_recipe_without_a_codec_takes_the_parents(parent: Path, packs: Path, tmp_path: Path) -> None:
    child = train(kept(codec=CodecConfig()), packs, tmp_path / "run", init_from=parent, steps=4)
    codec, info = load_codec(child)
    assert codec.config == load_codec(parent)[0].config
    # and resumes without naming the parent again, or naming it
    for again in (None, parent):
        train(kept(codec=CodecConfig()), packs, tmp_path / "run", init_from=again, steps=4, resume="auto")
        assert load_codec(child)[1].model_fingerprint == info.model_fingerprint


def test_a_new_decoder_can_be_trained_for_a_models_tokens(parent: Path, packs: Path, tmp_path: Path) -> None:
    config = staged().codec
    wider = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, channels=(24, 8)))  # type: ignore[arg-type]
    child = train(kept(codec=wider), packs, tmp_path / "run", init_from=parent, steps=4)
    codec, info = load_codec(child)
    assert codec.config == wider
    assert info.token_fingerprint == load_codec(parent)[1].token_fingerprint
    assert info.about["parent"]["parts"] == ["encoder", "quantizer"]


def test_a_killed_child_resumes_to_the_same_bits(
    parent: Path, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(kept(), report=dataclasses.replace(staged().report, checkpoint_every=5))
    train(recipe, packs, tmp_path / "whole", init_from=parent)
    step = Run._step

    def cut(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 8:
            raise KeyboardInterrupt
        return step(self, batch, state)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, packs, tmp_path / "cut", init_from=parent)
    train(recipe, packs, tmp_path / "cut", resume="auto")
    assert tensors(tmp_path / "cut") == tensors(tmp_path / "whole")
    documents = [load_codec(tmp_path / name / "model")[1] for name in ("cut", "whole")]
    assert documents[0].model_fingerprint == documents[1].model_fingerprint
    assert documents[0].about["parent"] == documents[1].about["parent"]


def test_what_a_run_began_from_is_in_its_log(parent: Path, packs: Path, tmp_path: Path) -> None:
    train(kept(), packs, tmp_path / "run", init_from=parent, steps=2)
    (start,) = lines(tmp_path / "run", "start")
    assert start["parent"]["name"] == "tiny"


# ---- refusals


def test_freezing_needs_a_model(packs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"freezes encoder, quantizer; say by --init-from of which model"):
        train(kept(), packs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": {"channels": (24, 8)}}, r"decoder = SeanetDecoderConfig\(.*channels=\(24, 8\)"),
        ({"encoder": {"blocks": 2}}, r"encoder = SeanetEncoderConfig\(.*blocks=2.*the model has .*blocks=1"),
        ({"quantizer": {"num_codebooks": 4}}, "quantizer = ResidualVQConfig.*num_codebooks=4"),
    ],
)
def test_another_codec_is_refused_with_the_difference(
    change: dict[str, dict[str, Any]], message: str, parent: Path, packs: Path, tmp_path: Path
) -> None:
    config = staged().codec
    ((part, values),) = change.items()
    other = dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **values)})
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(staged(), codec=other), packs, tmp_path / "run", init_from=parent)


def test_a_run_is_not_resumed_from_another_parent(parent: Path, packs: Path, tmp_path: Path) -> None:
    train(kept(), packs, tmp_path / "run", init_from=parent, steps=4)
    other = train(dataclasses.replace(staged(), name="other", seed=9, steps=8), packs, tmp_path / "other")
    with pytest.raises(ValueError, match="was begun from tiny; it cannot resume from other"):
        train(kept(), packs, tmp_path / "run", init_from=other, steps=4, resume="auto")


def test_freezing_everything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "x"\nfreeze = ["encoder", "quantizer", "decoder"]\n')
    with pytest.raises(ValueError, match="nothing is left to train"):
        load_recipe(tmp_path)
    assert to_dict(staged())["freeze"] == []
