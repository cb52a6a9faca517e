"""Strict readers of YAML and JSON: what a file says twice, or without end, is an error, in every file.

The usual readers of both formats keep the last of two equal keys, so a second `n_valid` in gates.yaml would silently
lower that gate. They follow aliases into aliases until memory or patience ends. No other module of the package reads
YAML, or JSON from outside.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.composer import Composer

from advalign.errors import InputError, shown
from advalign.regular_files import lookalike, read_text

YAML_BYTES, JSON_BYTES = 4 << 20, 128 << 20  # of a file
YAML_VALUES, JSON_VALUES = 250_000, 10_000_000  # in a file, those behind an alias counted wherever it stands
DEEPEST = 100  # lists and mappings in each other
LONGEST_NUMBER = 100  # characters of a number
TOO_DEEP = f"lists and mappings are nested more than {DEEPEST} deep: nest them less"
LOCATED = 1 << 20  # characters of JSON in which a repeated key is looked up again for its lines
NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)  # also for bytes that are no text and dates that do not exist
NOT_VALUES = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # `<<` and `=` as keys: YAML's own signs
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Refused(Exception):  # noqa: N818  becomes the caller's error
    """What no file may say: begins with the line, counted from 1, where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {message}" if line else message)


class _Repeated(_Refused):
    """A repeated key of a mapping; lines count from 1, None where unknown."""

    def __init__(self, key: str, first: int | None = None, second: int | None = None) -> None:
        lines = f", in line {first} and again in line {second}" if first != second else f" in line {first}"
        where = lines if first else ""
        super().__init__(f"{shown(key)} is given twice{where}: keep one of them")


class _BadNumber(_Refused):
    """A number that is none, or has too many digits."""

    def __init__(self, text: str, line: int | None = None) -> None:
        long = len(text) > LONGEST_NUMBER
        why = f"a number of more than {LONGEST_NUMBER} characters: shorten it" if long else "write a finite number"
        super().__init__(f"{shown(text, 20)} is {why}" if long else f"{text} is no finite number: {why}", line)
        self.text = text


class _Strict(Composer, yaml.CSafeLoader):
    """The safe loader, with an error for repeated keys, and bounds for what a short text can unfold into.

    LibYAML reads the text, in a quarter of the time that PyYAML's own reader takes.

    Keys are checked before merge keys (`<<`) are resolved: overriding a merged key is not a repetition.
    """

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self.values = self.depth = self.reached = 0
        self.behind: dict[int, tuple[yaml.Node, int, int]] = {}  # of nodes with an anchor: values and levels

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        line, values, depth, reached = event.start_mark.line + 1, self.values, self.depth, self.reached
        self.depth += isinstance(event, yaml.CollectionStartEvent)
        self.reached = self.depth
        self._check_bounds(line)
        node: Any = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.behind:
                raise _Refused(f"*{event.anchor} stands inside of what it names: write out what is meant", line)
            _, more, levels = self.behind[id(node)]
            self.values, self.reached = values + more, depth + levels
        else:
            self.values += 1
        self._check_bounds(line)
        if event.anchor is not None:
            self.behind[id(node)] = node, self.values - values, self.reached - depth
        if isinstance(node, yaml.ScalarNode) and node.tag in NUMBERS:
            self._check_number(node, line)
        self.depth, self.reached = depth, max(reached, self.reached)
        return node  # type: ignore[no-any-return]

    def _check_bounds(self, line: int) -> None:
        if self.reached > DEEPEST:
            raise _Refused(TOO_DEEP, line)
        if self.values > YAML_VALUES:
            raise _Refused(f"more than {YAML_VALUES} values, those of aliases (*NAME) included: shorten it", line)

    def _check_number(self, node: yaml.ScalarNode, line: int) -> None:
        if len(node.value) > LONGEST_NUMBER or (
            node.tag == NUMBERS[1] and not math.isfinite(self.construct_yaml_float(node))
        ):
            raise _BadNumber(node.value, line)

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
        InputError: no regular file, not YAML, a repeated key, or more than the bounds above allow; the message names
            file, line and key or bound.
    """
    source = source or str(path)
    return parse_yaml(_text(path, source, "YAML", YAML_BYTES, error), source, error)


def line_of_entry(path: Path, number: int) -> int:
    """Line, counted from 1, of an entry of the mapping that a YAML file holds; entries count from 0."""
    node: Any = yaml.compose(_text(path, str(path), "YAML", YAML_BYTES, InputError), _Strict)
    return int(node.value[number][0].start_mark.line) + 1


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
    if len(text) > YAML_BYTES:
        raise error(f"{source}: more than {YAML_BYTES >> 20} MiB of YAML: shorten it")
    try:
        return yaml.load(text, _Strict)  # noqa: S506  a safe loader
    except _Refused as refused:
        raise error(f"{source}: {refused}") from None
    except NOT_YAML as found:
        raise error(f"{source} is not valid YAML: {' '.join(str(found).split())}; fix that line") from None


def read_json(path: Path, error: type[InputError] = InputError) -> Any:
    """Read a JSON file.

    Args:
        path: of the file, in UTF-8.
        error: what to raise; `DataError` for a file of data.

    Raises:
        OSError: the file cannot be opened: callers say what it is for.
        InputError: no regular file, not JSON (NaN and Infinity are not), a repeated key, or more than the bounds above
            allow; the message names file, key or bound and, where known, line.
    """
    return parse_json(_text(path, str(path), "JSON", JSON_BYTES, error), str(path), error)


def parse_json(text: str, source: str, error: type[InputError] = InputError) -> Any:
    """Turn JSON into plain values.

    Args:
        text: JSON.
        source: where it comes from, for the message.
        error: what to raise.

    Raises:
        InputError: as `read_json`.
    """
    most = text.count(",") + text.count("[") + text.count("{")  # a comma in a string counts too
    if most > JSON_VALUES:
        raise error(f"{source}: more than {JSON_VALUES} values: split it")
    try:
        values = json.loads(
            text,
            object_pairs_hook=_each_once,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_number,
        )
    except _Repeated as repeated:
        raise error(f"{source}: {_located(text) or repeated}") from None
    except _BadNumber as found:
        line = text.count("\n", 0, text.find(found.text)) + 1
        raise error(f"{source}: {_BadNumber(found.text, line)}") from None
    except RecursionError:
        raise error(f"{source}: {TOO_DEEP}") from None
    except ValueError as found:
        raise error(f"{source} {(text and lookalike(text)) or f'is not valid JSON: {found}; fix it there'}") from None
    if _too_deep(values):
        raise error(f"{source}: {TOO_DEEP}")
    return values


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        times = Counter(key for key, _ in pairs)
        raise _Repeated(next(key for key, count in times.items() if count > 1))
    return values


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise _BadNumber(text)
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if len(text) > LONGEST_NUMBER or not math.isfinite(value):
        raise _BadNumber(text)
    return value


def _no_number(text: str) -> NoReturn:
    raise _BadNumber(text)


def _too_deep(values: Any) -> bool:
    """Whether lists and mappings are nested deeper than allowed; goes through them level by level."""
    level = [values] if isinstance(values, dict | list) else []
    for _ in range(DEEPEST):
        parts = [part.values() if type(part) is dict else part for part in level]
        level = [value for part in parts for value in part if type(value) is dict or type(value) is list]
    return bool(level)


def _located(text: str) -> _Refused | None:
    """The first repeated key with its lines, found by reading the JSON as YAML; nearly all JSON is YAML."""
    if len(text) > LOCATED:
        return None
    try:
        yaml.compose(text, _Strict)
    except _Repeated as repeated:
        return repeated
    except (_Refused, *NOT_YAML):
        pass
    return None


def _text(path: Path, source: str, kind: str, largest: int, error: type[InputError]) -> str:
    try:
        return read_text(path, error, largest=largest, source=source)
    except UnicodeDecodeError as found:
        raise error(f"{source} is not valid {kind}: {found}") from None
