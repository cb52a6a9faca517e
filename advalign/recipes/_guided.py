"""What the guided recipes share: the authors' form as a preset, and the names of their models."""

import re
from typing import Any

from pydantic import Field, model_validator

from advalign.recipes.terms._neural import NeuralSettings

RELEASED = {"normalise_ce": False}


class GuidedSettings(NeuralSettings):
    """Whose responses, and the authors' form."""

    released: bool = Field(False, description="the authors' form of the loss, see the recipe")

    @model_validator(mode="before")
    @classmethod
    def _as_released(cls, values: Any) -> Any:
        """The values with those of the authors' form."""
        if not isinstance(values, dict) or values.get("released") is not True:
            return values
        preset = RELEASED | ({"push_out": True} if "push_out" in cls.model_fields else {})
        for name, value in preset.items():
            if values.get(name, value) != value:
                raise ValueError(f"released means {name}: {str(value).lower()}: leave {name} out")
        return {**values, **preset}


def guided_name(kind: str, settings: Any) -> str:
    """The end of a published name: kind, responses, area, subject, layer, control.

    >>> from types import SimpleNamespace
    >>> given = {"responses": "NSD-1", "roi": "V4", "subject": None, "guided_layer": "layer3", "control": "class-code"}
    >>> guided_name("guided", SimpleNamespace(**given, released=True))
    'guided.nsd.1.v4.at.layer3.class.code.released'
    """
    at = settings.guided_layer and f"at {settings.guided_layer}"
    parts = (kind, settings.responses, settings.roi, settings.subject, at, settings.control)
    words = [re.sub(r"[^a-z0-9]+", ".", part.lower()).strip(".") for part in parts if part]
    return ".".join([*(word for word in words if word), *(["released"] if settings.released else [])])
