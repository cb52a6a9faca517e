"""The declared zoo: registry/zoo.yaml, timm name -> group, big-data flag, licence."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from advalign.errors import InputError
from advalign.settings import Strict, parse

Group = Literal["cnn", "vit", "hybrid", "ssl"]


class ZooEntry(Strict):
    """What is known of an architecture (with its pre-training, where it has one)."""

    group: Group
    big_data: bool = False
    license: str = "unknown"


class Zoo(Strict):
    """All of zoo.yaml."""

    models: dict[str, ZooEntry] = Field(default_factory=dict)


def read_zoo(path: Path) -> dict[str, ZooEntry]:
    """Read registry/zoo.yaml.

    Raises:
        InputError: missing, broken YAML, unknown key or group.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        raise InputError(f"{path} is missing: the zoo's models are declared there") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return parse(Zoo, values, str(path)).models
