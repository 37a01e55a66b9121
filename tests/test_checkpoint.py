"""Model folders: exact round trips, fingerprints that cover what they say, and refusal of all that is not whole."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import HOP, KINDS, noise, tiny_codec, tiny_tokenizer
from vqaudio import AudioTokenizer, Codes
from vqaudio.checkpoint import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME, CheckpointError, ModelInfo, load_codec, save_codec
from vqaudio.models import Codec
from vqaudio.quantize import Codebook

every_kind = pytest.mark.parametrize("kind", KINDS)
STATISTICS = ("ema_counts", "ema_sums")


def saved(codec: Codec, folder: Path, *, storage: Any = "float32", about: dict[str, Any] | None = None) -> ModelInfo:
    return save_codec(codec, folder, name="tiny", about=about or {"steps": 3}, card="A card.\n", storage=storage)


def weights(codec: Codec) -> dict[str, Tensor]:
    return {key: value for key, value in codec.state_dict().items() if not key.endswith(STATISTICS)}


def with_changed(codec: Codec, key: str) -> Codec:
    """A copy in which one number of the tensor `key` differs."""
    changed = copy.deepcopy(codec)
    tensor = changed.state_dict()[key]
    tensor[(0,) * tensor.ndim] += 0.125
    return changed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model."""
    saved(tiny_codec("rvq-projected"), tmp_path / "model")
    return tmp_path / "model"


# ---- round trips


@every_kind
@pytest.mark.parametrize("training", [False, True])
def test_load_gives_what_was_saved(kind: str, training: bool, tmp_path: Path) -> None:
    codec = copy.deepcopy(tiny_codec(kind)).train(training)
    info = saved(codec, tmp_path / "model", about={"recipe": {"name": "ß"}, "steps": 3})
    assert codec.training == training
    again, loaded = load_codec(tmp_path / "model")
    assert loaded == info and loaded.name == "tiny" and loaded.about == {"recipe": {"name": "ß"}, "steps": 3}
    assert again.config == codec.config
    assert weights(again).keys() == weights(codec).keys()
    assert all(torch.equal(value, weights(codec)[key]) for key, value in weights(again).items())
    assert not again.training and not any(parameter.requires_grad for parameter in again.parameters())
    audio = noise(1, 9 * HOP)[None]
    assert torch.equal(again.encode(audio), codec.encode(audio))
    assert (tmp_path / "model" / CARD_NAME).read_text(encoding="utf-8") == "A card.\n"


@every_kind
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_loaded_model_saved_again_has_the_same_fingerprints_and_files(kind: str, storage: str, tmp_path: Path) -> None:
    info = saved(tiny_codec(kind), tmp_path / "one", storage=storage)
    codec, loaded = load_codec(tmp_path / "one")
    again = saved(codec, tmp_path / "two", storage=storage)
    assert info == loaded == again
    for name in (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_half_precision_is_rounded_before_it_is_fingerprinted(tmp_path: Path) -> None:
    codec = tiny_codec("rvq-projected")
    full, half = saved(codec, tmp_path / "full"), saved(codec, tmp_path / "half", storage="float16")
    assert full.token_fingerprint != half.token_fingerprint
    loaded = weights(load_codec(tmp_path / "half")[0])
    assert all(value.dtype == torch.float32 for value in loaded.values())
    assert all(torch.equal(value, weights(codec)[key].half().float()) for key, value in loaded.items())
    assert (tmp_path / "half" / WEIGHTS_NAME).stat().st_size < 0.7 * (tmp_path / "full" / WEIGHTS_NAME).stat().st_size


@every_kind
def test_statistics_of_training_are_not_stored_and_agree_with_the_codes_when_loaded(kind: str, tmp_path: Path) -> None:
    saved(tiny_codec(kind), tmp_path / "model")
    assert not [key for key in load_file(tmp_path / "model" / WEIGHTS_NAME) if key.endswith(STATISTICS)]
    codebooks = [each for each in load_codec(tmp_path / "model")[0].modules() if isinstance(each, Codebook)]
    assert bool(codebooks) == (kind != "fsq")
    for codebook in codebooks:
        assert torch.equal(codebook.ema_sums, codebook.codes)
        assert torch.equal(codebook.ema_counts, torch.ones(len(codebook.codes)))


@every_kind
def test_loading_draws_no_random_number_and_fits_nothing(kind: str, tmp_path: Path) -> None:
    saved(tiny_codec(kind), tmp_path / "model")
    random_state = torch.random.get_rng_state()
    first = load_codec(tmp_path / "model")[0].state_dict()
    assert torch.equal(torch.random.get_rng_state(), random_state)
    torch.rand(5)
    second = load_codec(tmp_path / "model")[0].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


# ---- fingerprints


@every_kind
def test_what_gives_codes_their_meaning_changes_the_token_fingerprint(kind: str, tmp_path: Path) -> None:
    codec = tiny_codec(kind)
    before = saved(codec, tmp_path / "model")
    for key in list(weights(codec))[::3]:
        info = saved(with_changed(codec, key), tmp_path / "model")
        assert (info.token_fingerprint != before.token_fingerprint) == (not key.startswith("decoder.")), key
        assert info.model_fingerprint != before.model_fingerprint


def test_a_fingerprint_covers_the_config(tmp_path: Path) -> None:
    codec = copy.deepcopy(tiny_codec("rvq-projected"))
    before = saved(codec, tmp_path / "model")

    def fingerprints_with(part: str | None, name: str, value: object) -> ModelInfo:
        changed = copy.deepcopy(codec)
        target = changed.config if part is None else getattr(changed.config, part)
        object.__setattr__(target, name, value)  # frozen, so that nobody does this
        return saved(changed, tmp_path / "model")

    for part, name, value in [
        (None, "sample_rate", 8_000),
        ("encoder", "look_ahead_frames", 1),
        ("quantizer", "dim", 9),
    ]:
        info = fingerprints_with(part, name, value)
        assert info.token_fingerprint != before.token_fingerprint
    info = fingerprints_with("decoder", "look_ahead_frames", 1)
    assert info.token_fingerprint == before.token_fingerprint
    assert info.model_fingerprint != before.model_fingerprint


def test_what_is_said_about_a_model_changes_no_fingerprint(tmp_path: Path) -> None:
    codec = tiny_codec("fsq")
    one, two = saved(codec, tmp_path / "one"), saved(codec, tmp_path / "two", about={"scores": [1, 2]})
    assert one.token_fingerprint == two.token_fingerprint
    assert one.model_fingerprint == two.model_fingerprint


def test_running_averages_change_no_fingerprint(tmp_path: Path) -> None:
    codec = copy.deepcopy(tiny_codec("vq-mu-law"))
    before = saved(codec, tmp_path / "model")
    codec.state_dict()["quantizer.table.ema_counts"].mul_(7.0)
    assert saved(codec, tmp_path / "model") == before


# ---- refusals


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), r"config\.json: format version 2; this vqaudio reads 1"),
        (lambda d: d.update(format="other"), r"config\.json: not the config of a vqaudio model"),
        (lambda d: d.update(extra=1), r"config\.json: missing or unknown config keys: extra"),
        (lambda d: d.pop("about"), r"config\.json: missing or unknown config keys: about"),
        (lambda d: d["codec"].update(extra=1), r"config\.json: config key 'codec\.extra' is unknown"),
        (
            lambda d: d["codec"]["encoder"].update(extra=1),
            r"config\.json: config key 'codec\.encoder\.extra' is unknown",
        ),
        (lambda d: d["codec"]["encoder"].update(blocks="1"), r"key 'codec\.encoder\.blocks': expected int, got '1'"),
        (lambda d: d["codec"]["encoder"].update(strides=[4, 4]), r"encoder strides \(4, 4\) and decoder strides"),
        (lambda d: d["codec"].pop("encoder"), r"encoder strides \(160, 2\) and decoder strides \(5, 4\)"),
        (lambda d: d["codec"].update(sample_rate=8_000), "do not match the token fingerprint; the model was altered"),
        (lambda d: d["codec"].pop("sample_rate"), "do not match the token fingerprint; the model was altered"),
        (lambda d: d["codec"].pop("output"), "do not match the model fingerprint; the model was altered"),
        (lambda d: d.update(token_fingerprint="0" * 64), "do not match the token fingerprint"),
        (lambda d: d.update(model_fingerprint="0" * 64), "do not match the model fingerprint"),
        (lambda d: d.update(codec=[]), r"config\.json: config codec: expected a table of settings, got \[\]"),
        (lambda d: d["codec"]["quantizer"].update(codebook_size=16), r"tensor '.*vectors' has shape .* asks for \(16,"),
    ],
)
def test_altered_config_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    rewrite(folder / CONFIG_NAME, change)
    with pytest.raises(CheckpointError, match=message):
        load_codec(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layers.0.conv.bias"), r"tensor 'encoder\.layers\.0\.conv\.bias' is missing"),
        (lambda t: t.update(more=torch.zeros(3)), r"tensor 'more' does not belong to this model"),
        (
            lambda t: t.update({"encoder.layers.0.conv.bias": torch.zeros(9)}),
            r"tensor 'encoder\.layers\.0\.conv\.bias' has shape \(9,\); the config asks for \(8,\)",
        ),
        (
            lambda t: t.update({"encoder.layers.0.conv.bias": torch.zeros(8, dtype=torch.float64)}),
            r"tensor 'encoder\.layers\.0\.conv\.bias' is torch\.float64; models hold float32 or float16",
        ),
        (
            lambda t: t.update({"encoder.layers.0.conv.bias": torch.full((8,), torch.nan)}),
            r"tensor 'encoder\.layers\.0\.conv\.bias' holds NaN or infinity",
        ),
        (lambda t: t["encoder.layers.0.conv.weight"].mul_(1.001), "do not match the token fingerprint"),
        (lambda t: t["decoder.layers.0.conv.weight"].add_(1.0), "do not match the model fingerprint"),
        (
            lambda t: t.update({"encoder.layers.0.conv.bias": t["encoder.layers.0.conv.bias"].half()}),
            "do not match the token fingerprint",
        ),
    ],
)
def test_altered_weights_are_refused(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match=message) as error:
        load_codec(folder)
    assert str(folder) in str(error.value)


@settings(max_examples=40)
@given(data=st.data())
def test_one_altered_byte_of_the_weights_is_refused_or_means_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("altered") / "model"
    saved(tiny_codec("fsq"), folder)
    whole = (folder / WEIGHTS_NAME).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    place = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(whole) - 1)))
    altered = bytearray(whole)
    altered[place] ^= data.draw(st.integers(1, 255))
    (folder / WEIGHTS_NAME).write_bytes(altered)
    try:
        codec, _ = load_codec(folder)
    except CheckpointError as error:
        assert str(folder) in str(error)
        return
    # only white space between the words of the header may differ
    assert place < header
    assert all(torch.equal(value, weights(tiny_codec("fsq"))[key]) for key, value in weights(codec).items())


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    whole = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(whole[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable safetensors file \("):
        load_codec(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / WEIGHTS_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_codec(folder)
    (folder / CONFIG_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"is not a model folder: it has no config\.json"):
        load_codec(folder)
    with pytest.raises(CheckpointError, match="absent is not a model folder"):
        load_codec(folder / "absent")


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_config_that_is_no_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: not valid JSON"):
        load_codec(folder)


# ---- writing


@pytest.mark.parametrize(("value", "storage"), [(float("nan"), "float32"), (1e6, "float16")])
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, value: float, storage: str) -> None:
    codec = copy.deepcopy(tiny_codec("fsq"))
    codec.state_dict()["decoder.layers.0.conv.weight"][1, 2, 0] = value
    message = rf"tensor 'decoder\.layers\.0\.conv\.weight' holds values that are not finite in {storage}"
    with pytest.raises(CheckpointError, match=message):
        saved(codec, tmp_path / "model", storage=storage)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_replaced(folder: Path) -> None:
    info = saved(tiny_codec("fsq"), folder)
    assert load_codec(folder)[1] == info
    assert list(folder.parent.iterdir()) == [folder], "nothing may be left beside it"


def test_a_newer_version_of_a_model_is_still_a_model(folder: Path) -> None:
    rewrite(folder / CONFIG_NAME, lambda document: document.update(version=99))
    info = saved(tiny_codec("fsq"), folder)
    assert load_codec(folder)[1] == info


@pytest.mark.parametrize("config", [None, '{"model_type": "bert"}', "no json", "[]"])
def test_a_folder_that_is_no_model_is_not_replaced(tmp_path: Path, config: str | None) -> None:
    """Many programs' models have a config.json."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    if config is not None:
        (foreign / CONFIG_NAME).write_text(config)
    with pytest.raises(CheckpointError, match="foreign exists and is not a model folder; give another name"):
        saved(tiny_codec("fsq"), foreign)
    assert (foreign / "thesis.txt").read_text() == "years of work"


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CheckpointError, match="file exists and is not a model folder"):
        saved(tiny_codec("fsq"), tmp_path / "file")


def test_a_folder_to_write_to_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder .*absent to write the model to"):
        saved(tiny_codec("fsq"), tmp_path / "absent" / "model")


@pytest.mark.parametrize("failing", ["write_text", "rename"])
def test_a_failed_save_leaves_the_old_model_and_nothing_else(
    folder: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_codec(folder)[1]
    original = getattr(Path, failing)

    def fail_at_the_new_model(self: Path, *arguments: Any, **options: Any) -> Any:
        # the old folder may be moved away and back; only the new one is unlucky
        if failing == "rename" and (self == folder or self.name.endswith(".before")):
            return original(self, *arguments, **options)
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, failing, fail_at_the_new_model)
        with pytest.raises(OSError, match="disk full"):
            saved(tiny_codec("fsq"), folder)
    assert load_codec(folder)[1] == before
    assert list(folder.parent.iterdir()) == [folder]


def test_no_moment_is_without_a_whole_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever something is renamed or removed, a folder beside or in place holds a model that loads."""
    seen = []

    def look() -> None:
        whole = [path for path in folder.parent.iterdir() if (path / CONFIG_NAME).is_file() and load_codec(path)]
        seen.append(len(whole))

    rename, remove = Path.rename, shutil.rmtree

    def watched_rename(self: Path, target: Path) -> Path:
        result = rename(self, target)
        look()
        return result

    def watched_remove(path: Path, *arguments: Any, **options: Any) -> None:
        remove(path, *arguments, **options)
        look()

    monkeypatch.setattr(Path, "rename", watched_rename)
    monkeypatch.setattr(shutil, "rmtree", watched_remove)
    saved(tiny_codec("fsq"), folder)
    assert seen and min(seen) >= 1


def test_a_saved_model_can_be_read_by_others(folder: Path) -> None:
    assert folder.stat().st_mode & 0o555 == 0o555


def test_a_linked_folder_is_written_where_the_link_leads(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    tokenizer.save_pretrained(tmp_path / "model-v3")
    (tmp_path / "model").symlink_to("model-v3")
    (tmp_path / "model-v3/card.md").write_text("old")
    tokenizer.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").is_symlink() and (tmp_path / "model-v3/card.md").read_text() != "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-v3"]


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_the_default_type_of_torch_changes_no_code(kind: torch.dtype) -> None:
    """Neither of a model that is loaded under it nor of one that was there before."""
    audio = 0.1 * torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    before = AudioTokenizer.from_pretrained("speech-16k-live")
    codes, sound = before.encode(audio), before.decode(before.encode(audio))
    torch.set_default_dtype(kind)
    try:
        for tokenizer in (before, AudioTokenizer.from_pretrained("speech-16k-live")):
            assert tokenizer.encode(audio) == codes
            assert torch.equal(tokenizer.decode(codes), sound)
            session = tokenizer.session(block_frames=3)
            assert Codes.concatenate([session.push(audio), session.finish()]).num_frames == codes.num_frames
    finally:
        torch.set_default_dtype(torch.float32)
