"""Origin of a result, as tags and parameters of its run."""

from typing import Any

from advalign import provenance
from advalign.files import Project
from advalign.tracking.store import EXPERIMENT

IDENTITY = "advalign.inputs_sha256"  # tag: digest of a training's settings, data and code
IMPORTED_FROM = "advalign.imported_from"  # tag: name of the file that weights were imported from
COPIED = "advalign.copied_from"  # tag: the run of another store that this one is a copy of
RESTORED = "advalign.restored_from"  # tag: id of the decision, in a store that was lost, that this row repeats
LINEAGE = ("settings.sha256", "git.commit", "git.dirty", IMPORTED_FROM, EXPERIMENT)
"""Tags of a training that are copied to its version."""


def lineage_tags(project: Project) -> dict[str, str]:
    """Origin of a result: git.commit, git.dirty, dvc.data.md5."""
    commit, dirty = provenance.git_state(project.root)
    tags = {"git.commit": commit, "git.dirty": dirty, "dvc.data.md5": provenance.data_md5(project.root)}
    return {name: str(value) for name, value in tags.items() if value is not None}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as parameters.

    >>> flat({"recipe": {"eps": 1}})
    {'recipe.eps': '1'}
    """
    result: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = str(value)
    return result


def training_params(settings: dict[str, Any], architecture: str, recipe: str, seed: int) -> dict[str, str]:
    """Parameters of a training run."""
    return {"architecture": architecture, "recipe": recipe, "seed": str(seed), **flat(settings)}
