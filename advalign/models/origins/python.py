"""Your own networks: python:package.module:function names what is called, and runs only where you trust it.

A card or a zoo from elsewhere cannot make code run by naming it. Code is trusted where the project's own
registry/zoo.yaml names it, for one command (`--trust-code`), or for one process (the environment variable).
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from advalign.closures import Source
from advalign.errors import AdvalignError, InputError
from advalign.files import Project
from advalign.models.declared import read_zoo
from advalign.models.origins.base import Origin

PREFIX = "python:"
VARIABLE = "ADVALIGN_TRUST_CODE"  # architectures, separated by spaces; or EVERYTHING
EVERYTHING = "all"


def trust_code() -> None:
    """Trust all code named by architectures, in this process and in those that it starts."""
    os.environ[VARIABLE] = EVERYTHING


class OwnCode(Origin):
    """A callable that returns a network; it gets the entry's arguments, and num_classes where it takes that."""

    not_arguments = ("num_classes",)

    @property
    def architecture(self) -> str:
        """The architecture's name in cards and zoo entries."""
        return f"{PREFIX}{self.name}"

    def check(self) -> None:
        """See `Origin`; also refuse untrusted code, before anything is imported."""
        if not {EVERYTHING, self.architecture} & {*os.environ.get(VARIABLE, "").split(), *_declared()}:
            raise InputError(
                f"{self.architecture} runs code of its own, which is not trusted here: look at that code, then name "
                f"{self.architecture} in this project's registry/zoo.yaml, give --trust-code to evaluate or train, or "
                f"set {VARIABLE}={self.architecture}"
            )

    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """See `Origin`; the returned network may have weights already."""
        function = self._function()
        named = inspect.signature(function).parameters
        network = function(**arguments, **({"num_classes": classes} if "num_classes" in named else {}))
        if not isinstance(network, nn.Module):
            raise InputError(f"{self.architecture} returned a {type(network).__name__}: return a torch.nn.Module")
        return network

    def preprocessing(self) -> dict[str, Any]:
        """Pixels in [0, 1] without normalisation; the size has no default."""
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}

    def code_sha256(self) -> str:
        """Digest of the callable's module and of the code that it uses from the same folder (`closures`).

        Raises:
            InputError: the code is not trusted, or cannot be imported.
        """
        self.check()
        function: Any = inspect.unwrap(self._function())
        module, file = str(function.__module__), _file_of(function)
        root = file.parents[module.count(".") + (file.name == "__init__.py")]
        beside = {path.stem for path in root.glob("*.py")} | {path.parent.name for path in root.glob("*/__init__.py")}
        packages = {module.split(".")[0]} | (set() if "site-packages" in root.parts else beside)
        return Source(root, packages=tuple(sorted(packages))).closure(module).digest

    def _function(self) -> Callable[..., object]:
        module, _, name = self.name.partition(":")
        try:
            _import_from_project()
            function = getattr(importlib.import_module(module), name)
            file = _file_of(inspect.unwrap(function))
        except Exception as error:  # noqa: BLE001  what a user's module raises is its own affair
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(
                f"{self.architecture} cannot be imported: {reason}; expected python:package.module:function with the "
                "module in the project's root or installed, and written in Python"
            ) from None
        _say(f"advalign: running your own code: {self.architecture} ({file})")
        found: Callable[..., object] = function
        return found


def _declared() -> set[str]:
    """Architectures that the zoo of the project around the working directory names."""
    try:
        zoo = read_zoo(Project.find().zoo)
    except AdvalignError:
        return set()
    return {*zoo.architectures, *(entry.architecture or "" for entry in zoo.models.values())}


def _import_from_project() -> None:
    """Make modules in the experiment's folder and the repository's root importable, as with `python -m`."""
    try:
        project = Project.find()
    except AdvalignError:
        return
    sys.path += [str(folder) for folder in (project.root, project.home) if str(folder) not in sys.path]


def _file_of(function: Any) -> Path:
    return Path(inspect.getfile(function))


@cache
def _say(line: str) -> None:
    """Say it once."""
    print(line, file=sys.stderr)  # noqa: T201
