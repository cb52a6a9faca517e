"""From a plan to a checkpoint on disk."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from advalign.data.batches import TrainingData
from advalign.data.classes import DECISIONS, Classes, read_classes
from advalign.data.guided_images import GuidedImages
from advalign.data.training_images import pictured_images, training_images, validation_images
from advalign.errors import InputError
from advalign.files import Project, remove_leftovers, replacing, sha256
from advalign.inputs import digests, tracked
from advalign.models.checkpoints import CARD, HISTORY, Card, need_weights, read_card, read_history, save_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.zoo import create_classifier
from advalign.progress import say
from advalign.settings import TrainSettings
from advalign.training.loop import Fit, Observer
from advalign.training.meter import Row
from advalign.training.optimisation import Mixing
from advalign.training.plan import Plan
from advalign.training.synced_batch_norm import synchronise_batch_norms
from advalign.training.world import World, joined


def finished(folder: Path, identity: str) -> Card | None:
    """Return the card of a checkpoint that is complete and of this identity; None otherwise. Damage is said."""
    if not (folder / CARD).is_file():
        return None
    try:
        card = read_card(folder)
        if card.inputs_sha256 != identity:
            return None
        need_weights(folder, card)
        read_history(folder, card)
    except InputError as error:
        say(f"{error}; the model is trained again")
        return None
    return card


def state_file(project: Project, planned: Plan) -> Path:
    """The file of a running training's state; trainings with other settings or code have other files."""
    return project.resume / f"{planned.name}.{planned.identity[:12]}.pt"


def train(
    project: Project,
    planned: Plan,
    folder: Path,
    observers: Callable[[], Iterable[Observer]],
    *,
    device: str = "auto",
    resume: bool = True,
) -> Card:
    """Train and write a checkpoint; a finished one of the same identity is returned unchanged.

    Started by `torchrun`, every process calls this; the first one reads and writes states and the checkpoint.

    Args:
        project: whose data and states.
        planned: from `plan`.
        folder: the checkpoint's directory.
        observers: makes the observers; called only if there is something to train, and only in the first process.
        device: "auto", "cpu", "cuda", ...
        resume: resume an interrupted training of the same identity; otherwise start again.

    Raises:
        AdvalignError: settings or data cannot be used, or the training failed.
    """
    with joined(device) as world:
        if len(set(world.all(planned.identity))) > 1:
            raise InputError("the processes see different settings, code or data: give all machines the same ones")
        done = world.from_first(lambda: finished(folder, planned.identity))
        if done is not None:
            return done
        state = state_file(project, planned)
        if world.first:
            remove_leftovers(state)
            if not resume:
                state.unlink(missing_ok=True)
        classes = read_classes(project.data / "classes.yaml")
        version = world.from_first(lambda: _data_version(project, planned.train, classes))
        fit = _prepare(project, planned, classes, state, world)
        history = fit.run(world.from_first_alone(observers))
        return world.from_first(lambda: _write(planned, version, classes, folder, fit, history))


def _data_version(project: Project, settings: TrainSettings, classes: Classes) -> str | None:
    """DVC's digest of data/; None where the data is not tracked, or the files of this training are others."""
    images, validation = training_images(project, classes, settings), validation_images(project, classes, settings)
    files = [project.data / "classes.yaml", *images.paths, *validation.paths]
    found = tracked(project.root, digests(files, project.digests), project.digests)
    if found.warning:
        say(found.warning)
    return found.used


def _write(planned: Plan, data_md5: str | None, classes: Classes, folder: Path, fit: Fit, history: list[Row]) -> Card:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    with replacing(folder / HISTORY) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    assert isinstance(fit.result, Classifier)
    told = {**_card(planned, data_md5, classes, history[-1]), "history_sha256": sha256(folder / HISTORY)}
    card = save_checkpoint(folder, fit.result, told)
    fit.state_file.unlink(missing_ok=True)
    return card


def _card(planned: Plan, data_md5: str | None, classes: Classes, last: Row) -> dict[str, Any]:
    """The fields of the checkpoint's card that `save_checkpoint` does not add."""
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
        "group": planned.group,
        "baseline": planned.baseline,
        "settings": planned.used(),
        "seed": planned.seed,
        "inputs_sha256": planned.identity,
        "data_md5": data_md5,
        "metrics": {name: value for name, value in last.items() if name not in ("epoch", "step")},
    }


def _prepare(project: Project, planned: Plan, classes: Classes, state: Path, world: World) -> Fit:
    settings = planned.train
    torch.set_num_threads(settings.threads)
    data = _training_data(project, planned, classes, world)
    check_batch(settings, len(data), world.share.ranks)
    pictured = pictured_images(project, classes, settings) if world.first else None
    classifier = create_classifier(
        planned.training.model,
        len(classes),
        settings.size,
        seed=planned.seed,
        arguments=planned.training.arguments,
        crop=settings.crop,
        twice_differentiable=planned.recipe.twice_differentiable,
    )
    if settings.sync_batch_norm:
        synchronise_batch_norms(classifier.network)
    return Fit(
        classifier,
        planned.recipe,
        data,
        TrainingData(validation_images(project, classes, settings), settings),
        settings,
        planned.seed,
        planned.identity,
        state,
        world,
        TrainingData(pictured, settings) if pictured else None,
        Mixing(settings, len(classes)) if settings.mixup or settings.cutmix else None,
    )


def _training_data(project: Project, planned: Plan, classes: Classes, world: World) -> TrainingData:
    """The images to train on, with their responses where the recipe needs these; the recipe is told of them."""
    images = training_images(project, classes, planned.train)
    if planned.targets is None:
        return TrainingData(images, planned.train)
    targets = world.from_first(lambda: planned.targets)  # on other machines they are rounded otherwise
    assert targets is not None
    planned.recipe.guided_by(torch.from_numpy(targets.values), torch.from_numpy(targets.labels))
    if world.first:
        say(guidance(targets.told))
    return TrainingData(GuidedImages(images, targets), planned.train)


def guidance(told: dict[str, Any]) -> str:
    """A line on what guides a training.

    >>> guidance({"name": "nsd", "provenance": "measured", "roi": "V4", "subject": None, "control": "shuffled",
    ...           "noise_ceiling": None, "images": 90, "of": 500, "dimensions": 7})
    'guided by measured responses nsd, area V4, control shuffled, reliability unknown: 7 dimensions, 90 of 500 images'
    """
    whose = [f"{told['provenance']} responses {told['name']}, area {told['roi']}"] if "name" in told else []
    whose += [f"subject {told['subject']}"] if told.get("subject") else []
    whose += [f"control {told['control']}"] if told["control"] else []
    whose += ["reliability unknown"] if told.get("noise_ceiling", 1) is None else []
    numbers = f"{told['dimensions']} dimensions, {told['images']} of {told['of']} images"
    return f"guided by {', '.join(whose)}: {numbers}"


def check_batch(settings: TrainSettings, images: int, ranks: int) -> None:
    """Refuse a batch size that does not fit the images or the processes.

    Raises:
        InputError: it is larger than the data, or not divisible, or mixing would leave an image without a partner.
    """
    size, parts = settings.batch_size, ranks * settings.accumulate
    if images < size:
        raise InputError(f"train.batch_size {size} is larger than the {images} training images: lower it")
    if size % parts:
        raise InputError(
            f"train.batch_size {size} cannot be divided by {ranks} processes x {settings.accumulate} parts "
            "(train.accumulate): choose a multiple"
        )
    if (settings.mixup or settings.cutmix) and size // parts % 2:
        raise InputError(
            f"mixup and cutmix pair images: {size} / {parts} parts leaves an odd number in each: change batch_size"
        )
