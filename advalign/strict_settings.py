"""Strict settings: frozen, typed values from YAML; an unknown key or a wrong type is one line, not a default."""

import hashlib
import json
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from advalign.errors import InputError, shown, unknown_name
from advalign.names import ARCHITECTURE_RULE, NAME_RULE, is_architecture, is_name

NUMBERS = (int, float, int | None, float | None)


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(NAME_RULE)  # `parse` adds the key and what was got
    return text


PublishedName = Annotated[str, AfterValidator(_name)]
"""Type of a field that may become a path or a query: see `names.check_name`."""


def _architecture(text: str) -> str:
    if not is_architecture(text):
        raise ValueError(ARCHITECTURE_RULE)
    return text


ArchitectureName = Annotated[str, AfterValidator(_architecture)]
"""Type of a field that says which network is meant: a timm name, torchvision:NAME, python:package.module:function."""


def fraction(text: str) -> float:
    """Read a number or a quotient of two.

    >>> fraction("0.5/255") == 0.5 / 255
    True

    Raises:
        ValueError: neither, or divided by zero.
    """
    above, slash, below = text.partition("/")
    if slash and not float(below):
        raise ValueError(f"{text!r} divides by zero")
    return float(above) / float(below) if slash else float(text)


class Strict(BaseModel):
    """Base of all settings: immutable, and a key it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")  # pydantic would take `true` for 1
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in NUMBERS:
            raise ValueError("a number is wanted, an integer or a fraction")
        return value


AnySettings = TypeVar("AnySettings", bound=Strict)


def parse(model: type[AnySettings], values: object, source: str) -> AnySettings:
    """Turn plain values into settings.

    Args:
        model: the settings class.
        values: a mapping as YAML gives it.
        source: where the values come from, for the message ("params.yaml: train").

    Raises:
        InputError: one line naming the key, what was got and what is wanted.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = str(unknown_name("key", str(first["loc"][-1]), _keys_at(model, first["loc"][:-1])))
            raise InputError(f"{source}: {message}") from None
        got = "" if first["type"] == "missing" else f", got {shown(first['input'])}"
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(_line(source, key, said, got)) from None


def _line(source: str, key: str, said: str, got: str) -> str:
    """What is wrong with a value, or which values contradict each other, in words that do not need Python."""
    if not key and not said.startswith("Input should"):
        return f"{source}: {said}"
    plain = key.isascii() and key.isprintable() and len(key) <= 120  # it is from outside
    place = (key if plain else shown(key)) or "value"
    return f"{source}: {place}: {f'{said[:1].lower()}{said[1:]}'.replace('tuple', 'list')}{got}"


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the settings class that lies at a path of keys below `model`."""
    kind: Any = model
    for part in path:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and str(part) in kind.model_fields:
            kind = kind.model_fields[str(part)].annotation
        else:
            return []
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def digest(values: object) -> str:
    """SHA-256 of plain values (or settings) in canonical JSON: the identity of what a result was made from."""
    plain = values.model_dump(mode="json") if isinstance(values, BaseModel) else values
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()
