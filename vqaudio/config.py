"""Frozen dataclasses <-> plain dictionaries, JSON and TOML, strictly.

A config is a frozen keyword-only dataclass whose fields are numbers, strings, booleans, tuples of these, other
configs, or a union of configs told apart by their `kind` field. The same tree is Python, recipe TOML, checkpoint JSON
and command-line override; unknown keys, missing keys and wrong types are refused by their dotted path.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

ConfigT = TypeVar("ConfigT")


# For a field that a released config class gains, as `field(default=..., metadata=LATER)`: at its default it is left out
# of the tree, so that models from before keep their fingerprints when saved again. Such a default may never change.
LATER = {"later": True}


class ConfigError(ValueError):
    """A config that cannot be read; the message names the dotted path of the culprit."""


def to_dict(config: Any) -> dict[str, Any]:
    """The plain tree of a config: dictionaries, lists, numbers and strings, ready for JSON."""
    return {
        field.name: _to_plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if not (field.metadata.get("later") and getattr(config, field.name) == field.default)
    }


def from_dict(config_class: type[ConfigT], tree: Mapping[str, Any], *, path: str = "") -> ConfigT:
    """The config that `tree` describes. Fields with a default may be left out; anything unknown is refused."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"config {path or 'root'}: expected a table of settings, got {tree!r}")
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, config_class))}
    for key in tree:
        if key not in fields:
            raise ConfigError(f"config key {_join(path, key)!r} is unknown; known keys here: {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        if name in tree:
            values[name] = _from_plain(hints[name], tree[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"config key {_join(path, name)!r} is missing")
    try:
        return config_class(**values)
    except ConfigError:
        raise
    except ValueError as error:  # a config's own __post_init__ check: say where it sits
        raise ConfigError(f"config {path or 'root'}: {error}") from error


def load_toml(path: str | Path) -> dict[str, Any]:
    """The tree of a TOML file; a missing file or a syntax error is named in one sentence."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from error


def apply_overrides(tree: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """`tree` with dotted keys replaced: {"codec.quantizer.num-codebooks": "4"}. Values are read as TOML, else text."""
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for dotted, text in overrides.items():
        *parents, leaf = dotted.replace("-", "_").split(".")
        node = result
        for depth, parent in enumerate(parents):
            child = node.get(parent, {})
            if not isinstance(child, Mapping):
                raise ConfigError(f"override {dotted!r}: {'.'.join(parents[: depth + 1])!r} is not a table")
            node[parent] = dict(child)
            node = node[parent]
        node[leaf] = _parse_scalar(text)
    return result


def _parse_scalar(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    return value


def _from_plain(hint: Any, value: Any, path: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"config key {path!r}: expected one of {list(get_args(hint))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _from_union(get_args(hint), value, path)
    if origin is tuple:
        return _from_sequence(hint, value, path)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"config key {path!r}: expected a table, got {value!r}")
        item_hint = get_args(hint)[1]
        return {str(key): _from_plain(item_hint, item, _join(path, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(Any, hint), value, path=path)
    return _from_scalar(hint, value, path)


def _from_union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None:
        if type(None) in members:
            return None
        raise ConfigError(f"config key {path!r}: a value is required")
    members = tuple(member for member in members if member is not type(None))
    configs = [member for member in members if dataclasses.is_dataclass(member)]
    if not configs:
        if len(members) != 1:
            raise ConfigError(f"config key {path!r}: unions of plain types are not supported")
        return _from_plain(members[0], value, path)
    if not isinstance(value, Mapping):
        raise ConfigError(f"config key {path!r}: expected a table of settings, got {value!r}")
    if len(configs) == 1:
        return from_dict(typing.cast(Any, configs[0]), value, path=path)
    kinds = {get_args(typing.get_type_hints(member)["kind"])[0]: member for member in configs}
    kind = value.get("kind", next(iter(kinds)))  # left out, it is the first of the union: the default
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"config key {_join(path, 'kind')!r}: expected one of {sorted(kinds)}, got {kind!r}")
    return from_dict(typing.cast(Any, kinds[kind]), value, path=path)


def _from_sequence(hint: Any, value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"config key {path!r}: expected a list, got {value!r}")
    item_hints = get_args(hint)
    if len(item_hints) == 2 and item_hints[1] is Ellipsis:
        item_hints = (item_hints[0],) * len(value)
    if len(item_hints) != len(value):
        raise ConfigError(f"config key {path!r}: expected {len(item_hints)} values, got {len(value)}")
    items = zip(item_hints, value, strict=True)
    return tuple(_from_plain(item_hint, item, f"{path}[{index}]") for index, (item_hint, item) in enumerate(items))


def _from_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is a subclass of int: `steps = true` must not pass for 1
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"config key {path!r}: expected {hint.__name__}, got {value!r}")
    return value
