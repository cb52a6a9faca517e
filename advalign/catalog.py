"""Entries by name: the file is the entry, so `attacks/fmn_fast.py` is the attack `fmn-fast`.

Listing reads file names and imports nothing (the command line's help depends on that). Loading imports one file and
returns the one class in it that derives from the folder's base class (`<folder>/base.py`).
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

from advalign.errors import unknown_name

KINDS = {
    "attack": ("attacks", "Attack"),
    "metric": ("metrics", "Metric"),
    "probe": ("probes", "Probe"),
    "image set": ("data/sets", "ImageSet"),
    "recipe": ("recipes", "Recipe"),
    "term": ("recipes/terms", "Term"),
}
"""Kind of entry -> its folder, and the class of the folder's base.py that an entry derives from."""


def names(kind: str) -> list[str]:
    """List the entries of a kind (a key of `KINDS`), sorted.

    >>> names("term")
    ['manifold', 'map', 'neural', 'removal', 'saliency']
    """
    folder = Path(__file__).parent / KINDS[kind][0]
    stems = (path.stem for path in folder.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if stem != "base" and not stem.startswith("_"))


def load(kind: str, name: str) -> Any:
    """Import an entry's file and return its class.

    Args:
        kind: a key of `KINDS`.
        name: an entry's name as `names` lists it.

    Raises:
        InputError: no such entry (offers the nearest names).
        TypeError: the file does not hold exactly one class of the kind: a defect of the entry, not of the input.
    """
    if name not in names(kind):
        raise unknown_name(kind, name, names(kind))
    package = module_name(kind)
    base = getattr(importlib.import_module(f"{package}.base"), KINDS[kind][1])
    module = importlib.import_module(module_name(kind, name))
    classes = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, base) and member.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must define exactly one {base.__name__}, found {len(classes)}")
    return classes[0]


def module_name(kind: str, name: str = "") -> str:
    """Name of an entry's module, or of the package of its kind.

    >>> module_name("attack", "fmn-fast")
    'advalign.attacks.fmn_fast'
    """
    package = f"advalign.{KINDS[kind][0].replace('/', '.')}"
    return f"{package}.{name.replace('-', '_')}" if name else package
