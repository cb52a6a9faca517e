"""Names of models and aliases, and references to registered models: checked before they become a path or a query.

A name that passes cannot lead out of a folder, needs no quotes in a filter of MLflow, and reads the same in HTML,
Markdown and a shell.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from advalign.errors import DataError, InputError, shown

SCHEME = "models:/"
LONGEST = 200  # a file of that name, with its ending and as a temporary file, stays below the 255 bytes of file systems
NAME_RULE = (
    f"expected 1 to {LONGEST} ASCII letters, digits, '.', '_' or '-', the first a letter or digit, "
    "such as resnet18_l2_eps0.25: rename it"
)
ALIAS_RULE = (
    f"expected 1 to {LONGEST} ASCII letters, digits, '_' or '-', but not latest nor v1, v2, ..., which MLflow keeps "
    "for itself: give another, such as champion"
)
ARCHITECTURE_RULE = (
    "expected a timm name, torchvision:NAME or python:package.module:function, such as torchvision:squeezenet1_1: "
    "rename it"
)
REFERENCE_RULE = f"expected NAME, NAME@ALIAS, NAME/VERSION, {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION"

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")
_ARCHITECTURE = re.compile(
    r"(torchvision:|module:)?[A-Za-z0-9][A-Za-z0-9._-]*|python:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII
)
_ALIAS = re.compile(rf"(?!(latest|v[0-9]+)\Z)[A-Za-z0-9_-]{{1,{LONGEST}}}", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Reference:
    """A registered model, or one version of it, by number or by alias.

    Attributes:
        name: the published name.
        alias: such as "champion"; None where a version is meant, or the model as a whole.
        version: from 1; None where an alias is meant, or the model as a whole.
    """

    name: str
    alias: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        """NAME, NAME@ALIAS or NAME/VERSION."""
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.version is None else f"{self.name}/{self.version}"

    @property
    def uri(self) -> str:
        """The URI, as MLflow takes it.

        >>> Reference("resnet18", alias="champion").uri
        'models:/resnet18@champion'

        Raises:
            InputError: neither alias nor version: MLflow cannot load a model as a whole.
        """
        if self.alias is None and self.version is None:
            raise InputError(f"{shown(self.name)} names no version: give {self.name}@ALIAS or {self.name}/VERSION")
        return f"{SCHEME}{self}"


def is_name(text: str) -> bool:
    r"""Whether a text can be the name of a model.

    >>> [is_name(text) for text in ("resnet50.a1_in1k", "../resnet50", "", ".hidden", "resnet50\n", "r\u0435snet50")]
    [True, False, False, False, False, False]
    """
    return _NAME.fullmatch(text) is not None


def check_name(text: str, kind: str = "model") -> str:
    """Return a valid name unchanged.

    Args:
        text: from outside.
        kind: what it names, for the message.

    Raises:
        InputError: empty, too long, or with a character that could leave a folder or end a quoted text.

    >>> check_name("test_resnet_l2_eps0.5.combined")
    'test_resnet_l2_eps0.5.combined'
    """
    if not is_name(text):
        raise InputError(f"{shown(text)} cannot name a {kind}: {NAME_RULE}")
    return text


def as_word(text: str) -> str:
    """A text from outside as a part of a name.

    >>> as_word("ventral stream/V4")
    'ventral.stream.V4'
    """
    return re.sub(r"[^A-Za-z0-9_]+", ".", text).strip(".")


def is_architecture(text: str) -> bool:
    """Whether a text can say which network is meant, and where it comes from.

    >>> [is_architecture(text) for text in ("resnet18.a1_in1k", "torchvision:vgg11", "python:lab.nets:small")]
    [True, True, True]
    >>> [is_architecture(text) for text in ("python:lab/nets:small", "python:small", "hub:vgg11", "python:lab:a.b")]
    [False, False, False, False]
    """
    return len(text) <= LONGEST and _ARCHITECTURE.fullmatch(text) is not None


def plain_architecture(architecture: str) -> str:
    """The part of an architecture's name that names of models are made of: without its origin.

    >>> [plain_architecture(text) for text in ("resnet18", "torchvision:vgg11", "python:lab.nets:small")]
    ['resnet18', 'vgg11', 'small']
    """
    return architecture.rpartition(":")[2] if is_architecture(architecture) else architecture


def baseline_name(architecture: str) -> str:
    """Published name of an architecture trained by cross-entropy alone, which its other models are compared with.

    >>> baseline_name("resnet18")
    'resnet18.baseline'
    """
    return f"{plain_architecture(architecture)}.baseline"


def check_alias(text: str) -> str:
    """Return a valid alias unchanged.

    Raises:
        InputError: of other characters, too long, or one that MLflow keeps for itself.

    >>> check_alias("champion")
    'champion'
    """
    if _ALIAS.fullmatch(text) is None:
        raise InputError(f"{shown(text)} cannot be an alias: {ALIAS_RULE}")
    return text


def parse_reference(text: str) -> Reference:
    """Read a user's reference to a registered model or a version of it.

    Raises:
        InputError: not of such a form, or an invalid name, alias or version.

    >>> parse_reference("test_resnet.harmonized")
    Reference(name='test_resnet.harmonized', alias=None, version=None)
    >>> parse_reference("models:/resnet18@candidate")
    Reference(name='resnet18', alias='candidate', version=None)
    >>> parse_reference("resnet18/3").uri
    'models:/resnet18/3'
    """
    plain = text.removeprefix(SCHEME)
    name, mark, rest = next((parts for parts in map(plain.partition, "@/") if parts[1]), (plain, "", ""))
    if not mark and plain != text:
        raise InputError(f"{shown(text)} names no version: {REFERENCE_RULE}")
    if not is_name(name):
        raise InputError(f"{shown(text)} is no reference to a model: {REFERENCE_RULE}; of a NAME are {NAME_RULE}")
    if mark == "@":
        if _ALIAS.fullmatch(rest) is None:
            raise InputError(f"{shown(text)}: {shown(rest)} cannot be an alias: {ALIAS_RULE}")
        return Reference(name, alias=rest)
    if mark and _VERSION.fullmatch(rest) is None:
        raise InputError(f"{shown(text)}: {shown(rest)} is no version, expected a number from 1: {REFERENCE_RULE}")
    return Reference(name, version=int(rest) if mark else None)


def check_file_name(text: object, source: str) -> None:
    """Refuse a cell that is not the bare name of a file in the table's own folder.

    Args:
        text: a cell, from outside.
        source: the table, for the message.

    Raises:
        DataError: empty, a path, or no text at all.

    >>> check_file_name("ILSVRC2012_val_00000001.JPEG", "labels.csv")
    """
    if not isinstance(text, str) or text in ("", ".", "..") or any(mark in text for mark in "/\\\0"):
        raise DataError(f"{source}: {shown(text)} is not the name of a file in its folder: fix or remove that entry")


def check_distinct(names: Iterable[str], source: str) -> None:
    """Refuse names that differ only in upper and lower case: many file systems keep one file for both.

    Raises:
        InputError: there are such names.

    >>> check_distinct(["resnet18", "resnet34"], "params.yaml: trainings")
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise InputError(
                f"{source}: {shown(other)} and {shown(name)} differ only in upper and lower case, which many file "
                "systems take for one name: rename one"
            )
