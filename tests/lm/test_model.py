"""The language model: what it may look at, what a code costs, and its folder."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.lm.small import SMALL, WINDOW, random_codes, small_model, small_space
from vqaudio.lm.config import LMConfig
from vqaudio.lm.model import LanguageModel, code_bits, load_lm, save_lm

KINDS = ("delay", "flat", "parallel")


def bits(model: LanguageModel, codes: Tensor) -> Tensor:
    return code_bits(model, [codes])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_depends_on_the_steps_before_it_and_on_no_other(kind: str) -> None:
    model = small_model(kind, (5, 7, 4))
    codes = random_codes((5, 7, 4), 6)
    changed = codes.clone()
    changed[1, 3] = (codes[1, 3] + 1) % 7
    moved = bits(model, codes) != bits(model, changed)
    steps = model.space.layout.positions(6)  # (K, N)
    later = steps > steps[1, 3]
    assert moved[later].all() and moved[1, 3]
    later[1, 3] = True
    assert not moved[~later].any()
    assert bool(moved[2, 3]) == (kind != "parallel")  # the lower codes of a frame are seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_probabilities_of_all_codes_at_a_place_sum_to_one(kind: str) -> None:
    model, codes = small_model(kind), random_codes((5, 7), 4)
    for k, size in enumerate((5, 7)):
        total = 0.0
        for code in range(size):
            other = codes.clone()
            other[k, 2] = code
            total += 2 ** -float(bits(model, other)[k, 2])
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_a_batch_are_those_of_each_recording_alone(kind: str) -> None:
    model = small_model(kind)
    recordings = [random_codes((5, 7), count, seed=count) for count in (3, 9, 1, 5)]
    together = code_bits(model, recordings, batch_size=3)
    assert [each.shape for each in together] == [each.shape for each in recordings]
    for found, codes in zip(together, recordings, strict=True):
        torch.testing.assert_close(found, bits(model, codes), atol=1e-4, rtol=0)


def test_long_recordings_are_read_in_windows_that_overlap_by_half() -> None:
    model, codes = small_model("delay", (5,)), random_codes((5,), 40)
    found = bits(model, codes)
    # step n is read with begin before it: the second window holds steps 8 … 23 of these and adds the last eight
    row = torch.cat([torch.tensor([model.space.special_ids["begin"]]), codes[0]])
    for first in (16, 24):
        logits = model(row[None, None, first - WINDOW // 2 : first + WINDOW // 2])[0, 0, WINDOW // 2 :, :5]
        nats = torch.nn.functional.cross_entropy(logits, codes[0, first : first + 8], reduction="none")
        expected = nats / torch.log(torch.tensor(2.0))
        torch.testing.assert_close(found[0, first : first + 8].float(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, :15], bits(model, codes[:, :15]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_through_a_cache_are_the_whole_at_once(kind: str) -> None:
    model = small_model(kind)
    tokens = torch.randint(5, (2, model.num_rows, 10), generator=torch.Generator().manual_seed(0))
    cache = model.new_cache()
    parts = [model(part, cache=cache) for part in tokens.split([1, 4, 1, 3, 1], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=2), model(tokens), atol=1e-5, rtol=0)


def test_it_begins_as_the_codecs_vectors() -> None:
    """Codes that are near in the codec are near in the model, in and out, each codebook by itself."""
    model = LanguageModel(SMALL, small_space("delay", (5, 7)), window=WINDOW)
    before = model.embedding.weight.detach().clone()
    vectors = [torch.randn(size, 8, generator=torch.Generator().manual_seed(size)) for size in (5, 7)]
    model.start_from(vectors, generator=torch.Generator().manual_seed(0))
    V = model.space.vocab_size
    for k, theirs in enumerate(vectors):
        for table in (model.embedding.weight, model.head.weight):
            rows = table[k * V : k * V + len(theirs)].detach()
            ours, wanted = torch.cdist(rows, rows), torch.cdist(theirs, theirs)
            torch.testing.assert_close(ours / ours.max(), wanted / wanted.max(), atol=1e-3, rtol=0)
    assert torch.equal(model.embedding.weight[V - 3 : V], before[V - 3 : V])  # specials have no vector


def test_what_is_dropped_follows_from_the_generator() -> None:
    model = small_model().train()
    tokens = torch.zeros(1, 2, 8, dtype=torch.int64)

    def logits(seed: int) -> Tensor:
        return model(tokens, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(logits(1), logits(1)) and not torch.equal(logits(1), logits(2))


# ---- the folder


def test_a_folder_holds_the_model(tmp_path: Path) -> None:
    model, codes = small_model(), random_codes((5, 7), 6)
    save_lm(model, tmp_path / "lm", tokenizer="speech-16k", about={"step": 3}, card="# card\n")
    found = load_lm(tmp_path / "lm")
    assert torch.equal(bits(found.model, codes), bits(model, codes))
    assert (found.tokenizer, found.about, found.model.window) == ("speech-16k", {"step": 3}, WINDOW)
    assert sorted(path.name for path in (tmp_path / "lm").iterdir()) == [
        "card.md",
        "config.json",
        "model.safetensors",
        "space.json",
    ]


def test_half_precision_is_close_and_half_the_size(tmp_path: Path) -> None:
    model, codes = small_model(), random_codes((5, 7), 6)
    for half in (False, True):
        save_lm(model, tmp_path / str(half), tokenizer="x", about={}, card="", half=half)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("False", "True")]
    assert sizes[1] < 0.6 * sizes[0]
    torch.testing.assert_close(bits(load_lm(tmp_path / "True").model, codes), bits(model, codes), atol=0.02, rtol=0)


def test_a_wrong_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder of a language model"):
        load_lm(tmp_path)
    save_lm(small_model(), tmp_path, tokenizer="x", about={}, card="")
    document = json.loads((tmp_path / "config.json").read_text())
    for key, value, message in (
        ("format", "vqaudio codes", "its format is 'vqaudio codes'"),
        ("version", 9, "has version 9"),
        ("model", {**document["model"], "width": 32}, "weights that do not fit"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**document, key: value}))
        with pytest.raises(ValueError, match=message):
            load_lm(tmp_path)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 2"):
        LMConfig(width=18, num_heads=4)
    with pytest.raises(ValueError, match="lie in 0"):
        LMConfig(dropout=1.0)


def test_codes_that_are_all_alike_start_a_model_without_nan() -> None:
    model = small_model("flat")
    model.start_from([torch.ones(size, 3) for size in model.space.layout.codebook_sizes], generator=torch.Generator())
    assert all(parameter.isfinite().all() for parameter in model.parameters())
