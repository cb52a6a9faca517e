"""Group and baseline of an evaluated model, from its card or the zoo."""

from collections.abc import Mapping
from typing import Any

from advalign import catalog
from advalign.analysis.table import OWN_GROUP, STANDARD
from advalign.errors import InputError
from advalign.models.declared import Zoo, ZooEntry
from advalign.recipes.base import STANDARD_GROUP, Recipe


def group_of(summary: dict[str, Any], zoo: Zoo) -> str:
    """Group of an evaluated model: the zoo's, else the card's, which for a standard recipe is the architecture's.

    Where an older card has no group (`models.checkpoints.Card`), the recipe determines it.

    An architecture that is not timm's and not declared is in a group of its own: it enters no statistic of the zoo.

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
    if group == STANDARD_GROUP and ":" in summary["architecture"]:
        return OWN_GROUP
    if group == STANDARD_GROUP:
        raise InputError(
            f"{summary['architecture']!r} of {summary['model']} is not declared: "
            "add it to registry/zoo.yaml (architectures)"
        )
    return group


def baseline_of(said: Mapping[str, Any]) -> str | None:
    """Published name of the twin that a model is compared with; None where there is none.

    Args:
        said: recipe, architecture and baseline from the model's summary or card. Where the baseline is missing or
            None, the recipe names it.
    """
    recipe = _recipe(said)
    baseline: str | None = said.get("baseline") or (recipe.baseline(said["architecture"]) if recipe else None)
    return baseline


def _recipe(said: Mapping[str, Any]) -> type[Recipe] | None:
    """The recipe of a summary or a card; None where the catalog does not have it."""
    name: str = said["recipe"]
    found: type[Recipe] | None = catalog.load("recipe", name) if name in catalog.names("recipe") else None
    return found


def declared(summary: dict[str, Any], zoo: Zoo) -> ZooEntry | None:
    """The zoo's entry of an evaluated model: from registry/zoo.yaml now, else from the zoo of its evaluation."""
    if summary["model"] in zoo.models:
        return zoo.models[summary["model"]]
    return ZooEntry(**summary["declared"]) if summary.get("declared") else None
