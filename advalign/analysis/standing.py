"""What an evaluated model counts as, and which twin it is compared with: its card's word, or the zoo's."""

from collections.abc import Mapping
from typing import Any

from advalign import catalog
from advalign.analysis.table import STANDARD
from advalign.errors import InputError
from advalign.models.declared import Zoo, ZooEntry
from advalign.recipes.base import STANDARD_GROUP, Recipe


def group_of(summary: dict[str, Any], zoo: Zoo) -> str:
    """Group of an evaluated model: the zoo's, or what its card says, which for a standard recipe is the architecture's.

    A summary written before cards said it (`models.checkpoints.Card`) goes by its recipe.

    Raises:
        InputError: neither the model nor its architecture is declared.
    """
    if summary["model"] in zoo.models:
        return zoo.models[summary["model"]].group
    said: str | None = summary.get("group")
    if summary.get("declared"):
        return said or str(summary["declared"]["group"])
    recipe = _recipe(summary)
    group = said or (recipe.group if recipe else STANDARD_GROUP)
    if group not in (STANDARD_GROUP, *STANDARD):
        return group
    group = zoo.standard_group(summary["architecture"]) or said or STANDARD_GROUP
    if group == STANDARD_GROUP:
        raise InputError(
            f"{summary['architecture']!r} of {summary['model']} is not declared: "
            "add it to registry/zoo.yaml (architectures)"
        )
    return group


def baseline_of(said: Mapping[str, Any]) -> str | None:
    """Published name of the twin that a model is compared with; None where there is none.

    Args:
        said: of the model, its summary or its card: recipe, architecture and baseline. Where the last is missing or
            None, the recipe's word holds.
    """
    recipe = _recipe(said)
    baseline: str | None = said.get("baseline") or (recipe.baseline(said["architecture"]) if recipe else None)
    return baseline


def _recipe(said: Mapping[str, Any]) -> type[Recipe] | None:
    """The recipe that a summary or a card names, if it is one of ours."""
    name: str = said["recipe"]
    found: type[Recipe] | None = catalog.load("recipe", name) if name in catalog.names("recipe") else None
    return found


def declared(summary: dict[str, Any], zoo: Zoo) -> ZooEntry | None:
    """The zoo's entry of an evaluated model: what registry/zoo.yaml says now, else what another zoo said of it then."""
    if summary["model"] in zoo.models:
        return zoo.models[summary["model"]]
    return ZooEntry(**summary["declared"]) if summary.get("declared") else None
