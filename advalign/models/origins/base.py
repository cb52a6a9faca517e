"""Base of the origins of networks."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from advalign.errors import InputError, shown


class Origin(ABC):
    """One architecture of one origin.

    Args:
        name: of the architecture, without the origin's prefix.
    """

    tried: ClassVar[bool] = True  # whether a new network must be checked to return one logit per class
    not_arguments: ClassVar[tuple[str, ...]] = ()  # keywords (or their beginnings) that are the origin's own

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def check(self) -> None:
        """Refuse an architecture that the origin does not have.

        Raises:
            InputError: an unknown name (offers the nearest).
        """

    @abstractmethod
    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """Build an untrained network.

        Args:
            classes: number of logits.
            input_size: side of the square input in pixels, for architectures that fix it.
            arguments: further keyword arguments of the architecture.
        """

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Input that the weights expect, as far as known: values of `models.classifier.Preprocessing`.

        Raises:
            InputError: an unknown name.
        """

    def code_sha256(self) -> str | None:
        """Digest of code outside installed libraries; None where a library's version identifies the code."""
        return None

    def check_arguments(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments that belong to the origin and not to the architecture.

        Raises:
            InputError: such an argument would read a file, use the network, or not build a classifier.
        """
        for key in arguments:
            if key.startswith(self.not_arguments):
                raise InputError(
                    f"model {self.name!r}: {shown(key)} is no argument of the architecture, and weights come from "
                    "model.safetensors or where the zoo says: take it out of the arguments"
                )
