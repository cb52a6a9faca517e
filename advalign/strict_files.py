"""Strict readers of YAML and JSON: a repeated key in a mapping is an error, in every file.

The usual readers of both formats keep the last of two equal keys, so a second `n_valid` in gates.yaml would silently
lower that gate. No other module of the package reads YAML.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from advalign.errors import InputError, shown

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)  # also for bytes that are no text and dates that do not exist
NOT_JSON = (ValueError, RecursionError)  # also for numbers that are too long and for endless nesting
NOT_VALUES = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # `<<` and `=` as keys: YAML's own signs


class _Repeated(Exception):  # noqa: N818  becomes the caller's error
    """A repeated key of a mapping; lines count from 1, None where unknown."""

    def __init__(self, key: str, first: int | None = None, second: int | None = None) -> None:
        lines = f", in line {first} and again in line {second}" if first != second else f" in line {first}"
        where = lines if first else ""
        super().__init__(f"{shown(key)} is given twice{where}: keep one of them")


class _EachKeyOnce(yaml.SafeLoader):
    """The safe loader, with an error for repeated keys.

    Keys are checked before merge keys (`<<`) are resolved: overriding a merged key is not a repetition.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # a list or a mapping as a key: refused later, when values are made
            value = (key.tag, key.value) if key.tag in NOT_VALUES else self.construct_object(key)
            line = key.start_mark.line + 1
            if value in lines:
                raise _Repeated(key.value, lines[value], line)
            lines[value] = line
        return node


def read_yaml(path: Path, error: type[InputError] = InputError, *, source: str = "") -> Any:
    """Read a YAML file.

    Args:
        path: of the file, in UTF-8.
        error: what to raise; `DataError` for a file of data.
        source: what messages call it; default: its path.

    Returns:
        Plain values; None for an empty file.

    Raises:
        OSError: the file cannot be opened: callers say what it is for.
        InputError: not YAML, or a repeated key; the message names file, key and line.
    """
    source = source or str(path)
    return parse_yaml(_text(path, source, "YAML", error), source, error)


def parse_yaml(text: str, source: str, error: type[InputError] = InputError) -> Any:
    r"""Turn YAML into plain values.

    Args:
        text: YAML.
        source: where it comes from, for the message.
        error: what to raise.

    >>> parse_yaml("shared: &shared {size: 224, crop: 1.0}\nmine: {<<: *shared, size: 64}", "a.yaml")["mine"]["size"]
    64
    >>> parse_yaml("size: 224\nsize: 64", "a.yaml")
    Traceback (most recent call last):
    advalign.errors.InputError: a.yaml: 'size' is given twice, in line 1 and again in line 2: keep one of them

    Raises:
        InputError: as `read_yaml`.
    """
    try:
        return yaml.load(text, _EachKeyOnce)  # noqa: S506  a safe loader
    except _Repeated as repeated:
        raise error(f"{source}: {repeated}") from None
    except NOT_YAML as found:
        raise error(f"{source} is not valid YAML: {' '.join(str(found).split())}; fix that line") from None


def read_json(path: Path, error: type[InputError] = InputError) -> Any:
    """Read a JSON file.

    Args:
        path: of the file, in UTF-8.
        error: what to raise; `DataError` for a file of data.

    Raises:
        OSError: the file cannot be opened: callers say what it is for.
        InputError: not JSON, or a repeated key; the message names file, key and, where known, line.
    """
    return parse_json(_text(path, str(path), "JSON", error), str(path), error)


def parse_json(text: str, source: str, error: type[InputError] = InputError) -> Any:
    """Turn JSON into plain values.

    Args:
        text: JSON.
        source: where it comes from, for the message.
        error: what to raise.

    Raises:
        InputError: as `read_json`.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except _Repeated as repeated:
        raise error(f"{source}: {_located(text) or repeated}") from None
    except NOT_JSON as found:
        raise error(f"{source} is not valid JSON: {found}; fix it there") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _Repeated(key)
        values[key] = value
    return values


def _located(text: str) -> _Repeated | None:
    """The first repeated key with its lines, found by reading the JSON as YAML; nearly all JSON is YAML."""
    try:
        yaml.compose(text, _EachKeyOnce)
    except _Repeated as repeated:
        return repeated
    except NOT_YAML:
        pass
    return None


def _text(path: Path, source: str, kind: str, error: type[InputError]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as found:
        raise error(f"{source} is not valid {kind}: {found}") from None
