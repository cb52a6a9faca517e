"""From a recipe's name and settings to a checkpoint on disk."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from advalign import catalog, provenance
from advalign.data.batches import load_training_data
from advalign.data.classes import DECISIONS, Classes, read_classes
from advalign.data.clickme import split_shards
from advalign.errors import DataError, InputError
from advalign.files import Project, replacing, sha256
from advalign.models.checkpoints import CARD, HISTORY, WEIGHTS, Card, read_card, save_checkpoint
from advalign.models.zoo import create_classifier
from advalign.names import check_name
from advalign.recipes.base import Recipe
from advalign.settings import Settings, Training, digest, parse
from advalign.training.loop import Fit, Observer, Row

CODE = ["data/batches.py", "data/clickme.py", "data/tfrecord.py", "models", "recipes", "tensors", "training"]


@dataclass(frozen=True)
class Plan:
    """A training that is settled down to its name and identity, but not begun.

    Attributes:
        name: the published name.
        identity: digest of settings, data and code; the same identity gives the same weights on one machine.
    """

    name: str
    identity: str
    training: Training
    recipe: Recipe
    recipe_settings: dict[str, Any]
    settings: Settings
    seed: int


def plan(project: Project, settings: Settings, training: Training, seed: int | None = None) -> Plan:
    """Resolve a training: recipe settings with overrides, published name, identity.

    Raises:
        InputError: unknown recipe or key, value out of range.
        DataError: data missing.
    """
    recipe_class = catalog.load("recipe", training.recipe)
    values = {**settings.recipes.get(training.recipe, {}), **training.overrides}
    recipe_settings = parse(recipe_class.Settings, values, f"recipe {training.recipe!r}")
    recipe = recipe_class(recipe_settings, settings.train.label_smoothing)
    seed = settings.seed if seed is None else seed
    shards = [*split_shards(project, "train"), *split_shards(project, "val")]
    classes_file = project.need_data(project.data / "classes.yaml")
    identity = digest(
        {
            "architecture": training.model,
            "arguments": training.arguments,
            "recipe": training.recipe,
            "recipe_settings": recipe_settings.model_dump(),
            "train": settings.train.model_dump(),
            "seed": seed,
            "data": [sha256(path) for path in (*shards, classes_file)],
            "code": provenance.code_digest(CODE),
        }
    )
    name = check_name(recipe.published_name(training.model))
    return Plan(name, identity, training, recipe, recipe_settings.model_dump(), settings, seed)


def finished(folder: Path, identity: str) -> Card | None:
    """Return the card of a checkpoint that is complete, undamaged and of this identity; None otherwise."""
    try:
        card = read_card(folder)
        intact = card.inputs_sha256 == identity and sha256(folder / WEIGHTS) == card.weights_sha256
    except (DataError, InputError, OSError):
        return None
    return card if intact else None


def train(
    project: Project,
    planned: Plan,
    folder: Path,
    observers: Callable[[], Iterable[Observer]],
    *,
    device: str = "auto",
    resume: bool = True,
) -> Card:
    """Train and write a checkpoint; a finished one of the same identity is returned as it is.

    Args:
        project: where data and states lie.
        planned: from `plan`.
        folder: the checkpoint's directory.
        observers: makes who watches; called only when there is something to train.
        device: "auto", "cpu", "cuda", ...
        resume: continue a training of the same identity that was cut off; otherwise begin anew.
    """
    done = finished(folder, planned.identity)
    if done is not None:
        return done
    state_file = project.resume / f"{planned.name}.pt"
    if not resume:
        state_file.unlink(missing_ok=True)
    classes = read_classes(project.data / "classes.yaml")
    fit = _prepare(project, planned, classes, state_file, choose_device(device))
    history = fit.run(observers())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    with replacing(folder / HISTORY) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    card = save_checkpoint(folder, fit.classifier, _card(project, planned, classes, history[-1]))
    state_file.unlink(missing_ok=True)
    return card


def _card(project: Project, planned: Plan, classes: Classes, last: Row) -> dict[str, Any]:
    """What the checkpoint says of itself, other than what `save_checkpoint` adds."""
    return {
        "name": planned.name,
        "architecture": planned.training.model,
        "arguments": planned.training.arguments,
        "classes": [
            {"wnid": entry.wnid, "name": entry.name, "decision": decision}
            for entry, decision in zip(classes.entries, classes.decision_of_class, strict=True)
        ],
        "decisions": DECISIONS,
        "recipe": planned.training.recipe,
        "settings": {"recipe": planned.recipe_settings, "train": planned.settings.train.model_dump()},
        "seed": planned.seed,
        "inputs_sha256": planned.identity,
        "data_md5": provenance.data_md5(project.root),
        "metrics": {name: value for name, value in last.items() if name not in ("epoch", "step")},
    }


def _prepare(project: Project, planned: Plan, classes: Classes, state_file: Path, device: torch.device) -> Fit:
    settings = planned.settings.train
    torch.set_num_threads(settings.threads)
    data = load_training_data(project, "train", len(classes), settings.blur_maps)
    validation = load_training_data(project, "val", len(classes), settings.blur_maps)
    if len(data) < settings.batch_size:
        raise InputError(f"train.batch_size {settings.batch_size} is larger than the {len(data)} training images")
    classifier = create_classifier(
        planned.training.model,
        len(classes),
        data.pixels.shape[-1],
        seed=planned.seed,
        arguments=planned.training.arguments,
        twice_differentiable=planned.recipe.twice_differentiable,
    )
    return Fit(
        classifier, planned.recipe, data, validation, settings, planned.seed, planned.identity, state_file, device
    )


def choose_device(name: str) -> torch.device:
    """Resolve "auto" to the GPU if there is one.

    Raises:
        InputError: not a device, or not available here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here: {' '.join(str(error).split())[:120]}") from None
    return device
