"""The declared zoo: registry/zoo.yaml lists every model and its particulars; the code has no special cases."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from advalign.errors import InputError, unknown_name
from advalign.names import check_distinct, plain_architecture
from advalign.strict_files import read_yaml
from advalign.strict_settings import ArchitectureName, PublishedName, Strict, parse

Group = Literal["cnn", "vit", "hybrid", "ssl", "harmonized", "robust"]
GROUPS: tuple[str, ...] = get_args(Group)
HUB = "hub"
OWN = "own"  # the weights of the network that a python: callable returns


class ZooEntry(Strict):
    """The zoo's entry of a published model."""

    group: Group
    big_data: bool = False
    license: str = "unknown"
    parameters: float | None = Field(None, description="millions, for information")
    architecture: ArchitectureName | None = Field(None, description="default: the entry's own name, as timm's")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of the architecture, as its origin takes them")
    preprocessing: dict[str, Any] = Field(default_factory=dict, description="what is not as the origin says")
    weights: str | None = Field(None, description="hub, own, a file, a folder, or models:/NAME@alias")
    head: str | None = Field(None, description="a file with the classifier's weight and bias, where weights have none")

    @property
    def recipe(self) -> str:
        """How the model was trained, as far as its group shows."""
        return self.group if self.group in ("harmonized", "robust") else "pretrained"


class Zoo(Strict):
    """All of zoo.yaml."""

    weights: dict[str, str] = Field(default_factory=dict, description="pattern of names -> source of weights")
    architectures: dict[str, Group] = Field(default_factory=dict, description="groups of architectures trained here")
    models: dict[PublishedName, ZooEntry] = Field(default_factory=dict)

    def weights_of(self, name: str) -> str:
        """Source of a model's weights: its entry's, else that of the first matching pattern, else the hub."""
        own = self.models[name].weights
        by_pattern = (place for pattern, place in self.weights.items() if fnmatchcase(name, pattern))
        return (own or next(by_pattern, HUB)).replace("{name}", name)

    def select(self, patterns: list[str]) -> list[str]:
        """Names that match any of the patterns, in the zoo's order; all of them for no pattern.

        Raises:
            InputError: a pattern matches nothing (offers the nearest names).
        """
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in self.models):
                near = str(unknown_name("zoo model", pattern, self.models))
                raise InputError(f"{near}: `advalign zoo list` shows their names")
        return [name for name in self.models if not patterns or any(fnmatchcase(name, one) for one in patterns)]

    def standard_group(self, architecture: str) -> Group | None:
        """Group of an architecture trained here: the declared one, or that of its supervised entries in the zoo."""
        if architecture in self.architectures:
            return self.architectures[architecture]
        plain = plain_architecture(architecture).split(".")[0]
        namesakes = {
            entry.group
            for name, entry in self.models.items()
            if (entry.architecture == architecture or name.split(".")[0] == plain)
            and entry.group in ("cnn", "vit", "hybrid")
        }
        return namesakes.pop() if len(namesakes) == 1 else None


def read_zoo(path: Path) -> Zoo:
    """Read registry/zoo.yaml.

    Raises:
        InputError: missing, broken YAML, repeated or unknown key, unknown group.
    """
    try:
        values = read_yaml(path)
    except OSError:
        raise InputError(f"{path} is missing: it declares the zoo's models; write it, or name another file") from None
    zoo = parse(Zoo, values, str(path))
    check_distinct(zoo.models, f"{path}: models")
    return zoo
