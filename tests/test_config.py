"""Configs as trees: what goes out comes back, and what is wrong is named by its dotted path."""

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.tiny import CONFIGS
from vqaudio.config import ConfigError, apply_overrides, from_dict, load_toml, to_dict
from vqaudio.models import (
    CodecConfig,
    HybridEncoderConfig,
    PlainDecoderConfig,
    PlainEncoderConfig,
    SeanetDecoderConfig,
    SeanetEncoderConfig,
)
from vqaudio.quantize import FSQConfig, ResidualVQConfig, VQConfig
from vqaudio.training import Recipe

CODEC_PARTS = [
    SeanetEncoderConfig(look_ahead_frames=7),
    SeanetDecoderConfig(blocks=1),
    PlainEncoderConfig(strides=(3, 2)),
    PlainDecoderConfig(channels=5),
    ResidualVQConfig(update="gradient", normalize=True, ema_decay=0.5),
    VQConfig(revive_below=0.0),
    FSQConfig(levels=(3, 3)),
]


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Every kind of field that a config may have."""

    steps: int
    rate: float = 0.5
    on: bool = False
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: float | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)
    table: dict[str, int] = dataclasses.field(default_factory=dict)
    optional: Inner | None = None


@pytest.mark.parametrize(
    "config",
    [
        *CODEC_PARTS,
        *CONFIGS.values(),
        CodecConfig(),
        Recipe(name="x", steps=5),
        Outer(steps=1),
        Outer(steps=1, maybe=2.0, inner=Inner(names=()), table={"a": 1}, optional=Inner(size=4)),
    ],
    ids=lambda config: type(config).__name__,
)
def test_round_trip_through_json(config: Any) -> None:
    again = from_dict(type(config), json.loads(json.dumps(to_dict(config))))
    assert again == config


def test_left_out_settings_take_their_defaults() -> None:
    assert from_dict(Outer, {"steps": 4}) == Outer(steps=4)
    assert from_dict(CodecConfig, {}) == CodecConfig()
    shorter = from_dict(CodecConfig, {"quantizer": {"num_codebooks": 2}})
    assert shorter.quantizer == ResidualVQConfig(num_codebooks=2)


def test_kind_tells_the_member_of_a_union_and_left_out_means_the_first() -> None:
    assert from_dict(CodecConfig, {"quantizer": {"kind": "fsq", "levels": [3, 3]}}).quantizer == FSQConfig(
        levels=(3, 3)
    )
    assert from_dict(CodecConfig, {"quantizer": {"dim": 16}}).quantizer == ResidualVQConfig(dim=16)
    assert isinstance(from_dict(CodecConfig, {"encoder": {}}).encoder, HybridEncoderConfig)


def test_integers_pass_for_floats() -> None:
    rate = from_dict(Outer, {"steps": 1, "rate": 2}).rate
    assert rate == 2.0 and isinstance(rate, float)


@pytest.mark.parametrize(
    ("config", "tree", "message"),
    [
        (
            CodecConfig,
            {"quantiser": {}},
            r"key 'quantiser' is unknown; known keys here: sample_rate, encoder, quantizer",
        ),
        (
            CodecConfig,
            {"quantizer": {"size": 5}},
            r"key 'quantizer\.size' is unknown; known keys here: kind, dim, num_co",
        ),
        (Recipe, {"name": "x", "codec": {"encoder": {"kernel": 3}}}, r"key 'codec\.encoder\.kernel' is unknown"),
        (Outer, {}, r"config key 'steps' is missing"),
        (Outer, {"steps": True}, r"key 'steps': expected int, got True"),
        (Outer, {"steps": 1.0}, r"key 'steps': expected int, got 1\.0"),
        (Outer, {"steps": "1"}, r"key 'steps': expected int, got '1'"),
        (Outer, {"steps": None}, r"key 'steps': expected int, got None"),
        (Outer, {"steps": 1, "rate": True}, r"key 'rate': expected float, got True"),
        (Outer, {"steps": 1, "on": 1}, r"key 'on': expected bool, got 1"),
        (Outer, {"steps": 1, "pair": [1]}, r"key 'pair': expected 2 values, got 1"),
        (Outer, {"steps": 1, "pair": 3}, r"key 'pair': expected a list, got 3"),
        (Outer, {"steps": 1, "pair": ["a", 1]}, r"key 'pair\[0\]': expected float, got 'a'"),
        (Outer, {"steps": 1, "inner": {"names": "abc"}}, r"key 'inner\.names': expected a list, got 'abc'"),
        (Outer, {"steps": 1, "inner": {"names": ["a", 2]}}, r"key 'inner\.names\[1\]': expected str, got 2"),
        (Outer, {"steps": 1, "inner": 3}, r"config inner: expected a table of settings, got 3"),
        (Outer, {"steps": 1, "inner": None}, r"config inner: expected a table of settings, got None"),
        (Outer, {"steps": 1, "optional": 3}, r"key 'optional': expected a table of settings, got 3"),
        (Outer, {"steps": 1, "table": {"a": "b"}}, r"key 'table\.a': expected int, got 'b'"),
        (Outer, {"steps": 1, "table": [1]}, r"key 'table': expected a table, got \[1\]"),
        (Outer, [1], r"config root: expected a table of settings, got \[1\]"),
        (
            CodecConfig,
            {"quantizer": {"kind": "lfq"}},
            r"'quantizer\.kind': expected one of \['fsq', 'residual_vq', 'vq'\]",
        ),
        (CodecConfig, {"quantizer": {"kind": []}}, r"'quantizer\.kind': expected one of .*, got \[\]"),
        (CodecConfig, {"quantizer": None}, r"key 'quantizer': a value is required"),
        (CodecConfig, {"output": "mp3"}, r"key 'output': expected one of \['waveform', 'mu_law'\], got 'mp3'"),
        (
            CodecConfig,
            {"encoder": {"strides": [160, 3]}},
            r"config root: encoder strides \(160, 3\) and decoder",
        ),
        (Recipe, {"name": "x", "codec": {"quantizer": {"dim": 0}}}, r"config codec\.quantizer: dim 0, num_codebooks 8"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(config: type, tree: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(config, tree)


# ---- overrides


def test_overrides_reach_down_dotted_paths_and_make_them() -> None:
    tree = {"name": "x", "codec": {"quantizer": {"kind": "vq"}}}
    overrides = {
        "codec.quantizer.codebook-size": "128",
        "codec.sample-rate": "8000",
        "losses.mel": "0.5",
        "data.gain-db": "[-3.0, 3.0]",
    }
    recipe = from_dict(Recipe, apply_overrides(tree, overrides))
    assert recipe.codec.quantizer == VQConfig(codebook_size=128)
    assert recipe.codec.sample_rate == 8_000
    assert recipe.losses.mel == 0.5
    assert recipe.data.gain_db == (-3.0, 3.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-2.5", -2.5), ("1e-3", 1e-3), ("true", True), ("[8, 5]", [8, 5]), ("fsq", "fsq"), ("", "")],
)
def test_override_is_read_as_toml_else_as_text(text: str, value: object) -> None:
    found = apply_overrides({}, {"a.b": text})["a"]["b"]
    assert found == value and type(found) is type(value)


def test_overrides_leave_the_tree_alone() -> None:
    tree = {"a": {"b": {"c": 1}}, "d": [1, 2]}
    before = copy.deepcopy(tree)
    changed = apply_overrides(tree, {"a.b.c": "2", "a.e": "3", "f": "4"})
    assert tree == before
    assert changed == {"a": {"b": {"c": 2}, "e": 3}, "d": [1, 2], "f": 4}


def test_override_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"override 'seed\.x': 'seed' is not a table"):
        apply_overrides({"seed": 1}, {"seed.x": "2"})


@given(steps=st.integers(1, 10**9), rate=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_as_overrides(steps: int, rate: float) -> None:
    config = from_dict(Outer, apply_overrides({}, {"steps": str(steps), "rate": repr(rate)}))
    assert (config.steps, config.rate) == (steps, rate)


# ---- TOML


def test_toml_file_gives_its_tree(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\n[codec.encoder]\nstrides = [2, 3]\n', encoding="utf-8")
    assert load_toml(path) == {"name": "x", "codec": {"encoder": {"strides": [2, 3]}}}


@pytest.mark.parametrize("content", [b"steps = = 3\n", b"a = 1\na = 2\n", b"\xff\xfe"])
def test_broken_toml_names_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML \("):
        load_toml(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read \(No such file or directory\)"):
        load_toml(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_toml(tmp_path)
