"""What every origin of networks answers."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from advalign.errors import InputError, shown


class Origin(ABC):
    """One architecture of one origin.

    Args:
        name: the architecture's, without the prefix that says its origin.
    """

    tried: ClassVar[bool] = True  # whether a new network must show that an image gives it one logit per class
    not_arguments: ClassVar[tuple[str, ...]] = ()  # keywords that are not the architecture's; also: beginnings of them

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def check(self) -> None:
        """Refuse what the origin does not have.

        Raises:
            InputError: an unknown name (offers the nearest).
        """

    @abstractmethod
    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """An untrained network with so many logits.

        Args:
            classes: number of logits.
            input_size: side of the square input in pixels, for architectures that fix it.
            arguments: further keyword arguments of the architecture.
        """

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """What is known of the input that its weights want: values of `models.classifier.Preprocessing`.

        Raises:
            InputError: an unknown name.
        """

    def code_sha256(self) -> str | None:
        """Digest of code that no installed library holds; None where a library's version says it all."""
        return None

    def check_arguments(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments that are the origin's own and not the architecture's.

        Raises:
            InputError: there is one; it would read a file, use the network, or build something else than a classifier.
        """
        for key in arguments:
            if key.startswith(self.not_arguments):
                raise InputError(
                    f"model {self.name!r}: {shown(key)} is no argument of the architecture, and weights come from "
                    "model.safetensors or where the zoo says: take it out of the arguments"
                )
