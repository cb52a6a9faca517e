"""Networks passed to `advalign.evaluate` in Python: only their rows and weights are kept."""

from typing import Any, NoReturn

from torch import nn

from advalign.errors import InputError
from advalign.models.origins.base import Origin


class Handed(Origin):
    """A torch module whose code has no name, so that it cannot be built again."""

    def check(self) -> None:
        """See `Origin`."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.name} was handed to advalign.evaluate in Python and cannot be built again from its card: hand it "
            "over again, or name its code in registry/zoo.yaml (architecture: python:package.module:function)"
        )

    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """See `Origin`."""
        self._refuse()

    def preprocessing(self) -> dict[str, Any]:
        """See `Origin`."""
        return {}
