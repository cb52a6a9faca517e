"""The example entries of docs/extending.md, copied out: they pass the same contract tests as the house's own."""

import importlib
import re
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from advalign import catalog
from tests.conftest import REPOSITORY

BLOCK = re.compile(r"`(advalign/[\w/]+\.py)`\n\n```python\n(.*?)```", re.DOTALL)
EXAMPLES = dict(BLOCK.findall((REPOSITORY / "docs" / "extending.md").read_text()))
"""Path inside the repository -> code."""

_COPIES = TemporaryDirectory(prefix="extending-")
_HOUSE = catalog.names


def names(kind: str) -> list[str]:
    """The house's entries of a kind, and then the examples."""
    folder = f"advalign/{catalog.KINDS[kind][0]}"
    found = [Path(path) for path in EXAMPLES if str(Path(path).parent) == folder]
    return [*_HOUSE(kind), *sorted(path.stem.replace("_", "-") for path in found)]


def load(kind: str, name: str) -> Any:
    """An entry's class, as the catalog loads it."""
    with installed():
        return catalog.load(kind, name)


def installed() -> AbstractContextManager[object]:
    """The catalog as it is with the examples' files in place."""
    return mock.patch.object(catalog, "names", names)


def _copy_out() -> None:
    for path, code in EXAMPLES.items():
        file = Path(_COPIES.name, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
        package = importlib.import_module(".".join(Path(path).parent.parts))
        if str(file.parent) not in package.__path__:
            package.__path__.append(str(file.parent))


_copy_out()
