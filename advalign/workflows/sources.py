"""From users' names for models to sources for an evaluation: trained names, folders, the zoo, the registry."""

import atexit
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

from advalign.data.classes import DECISIONS, Classes
from advalign.errors import InputError, unknown_name
from advalign.evaluation.campaign import Source, TrainedModel
from advalign.files import Project
from advalign.models.checkpoints import CARD, ClassCard, read_card
from advalign.models.declared import Zoo, read_zoo
from advalign.models.fetched import REGISTRY, FetchedModel
from advalign.names import check_distinct, parse_reference
from advalign.progress import say
from advalign.settings import read_trainings
from advalign.tracking.registry.registered import checkpoint_folders, fetch, resolve
from advalign.tracking.store import open_store, store_errors


def find_sources(project: Project, classes: Classes, names: list[str], zoo_file: Path | None = None) -> list[Source]:
    """Turn names into models to evaluate.

    Args:
        project: owner of the outputs and the zoo.
        classes: of the data.
        names: trained models, checkpoint folders, models:/NAME@alias, names or patterns of the zoo. Empty: all
            trained models, or with `zoo_file` all of the zoo.
        zoo_file: another zoo than registry/zoo.yaml; names are then looked up only there.

    Raises:
        InputError: unknown name (offers the nearest), the same model twice, or nothing is trained yet.
    """
    if zoo_file is not None:
        zoo = read_zoo(zoo_file)
        return _distinct([_fetched(project, zoo, name, classes) for name in zoo.select(names)])
    trained = _trained(project)
    if not names:
        if not trained:
            raise InputError("nothing is trained yet: `dvc repro` or `advalign train baseline` first")
        return [TrainedModel(folder) for folder in trained.values()]
    sources: list[Source] = []
    for name in names:
        folder = _checkpoint(project, name, trained)
        if folder is None:
            sources += _from_zoo(project, classes, name, list(trained))
        elif name.startswith(REGISTRY) or name in trained:
            sources.append(TrainedModel(folder))
        else:
            sources.append(_from_outside(project, folder, trained))
    return _distinct(sources)


def find_checkpoint(project: Project, name: str) -> Path:
    """The folder of an existing checkpoint.

    Args:
        project: owner of the outputs and the registry.
        name: a trained model, a checkpoint folder, or models:/NAME@alias.

    Raises:
        InputError: unknown name (offers the nearest).
    """
    trained = _trained(project)
    folder = _checkpoint(project, name, trained)
    if folder is None:
        raise unknown_name("model", name, trained)
    return folder


def class_cards(classes: Classes) -> tuple[ClassCard, ...]:
    """The data's classes in the form of cards."""
    return tuple(ClassCard(wnid=one.wnid, name=one.name, decision=int(one.animate)) for one in classes.entries)


def registered(project: Project, uri: str) -> Path:
    """The checkpoint of a registered version, copied into the project for all workers until this process ends."""
    reference = parse_reference(uri)
    store = open_store(project)
    folder = project.root / "outputs" / f".registered.{uuid4().hex[:12]}"
    atexit.register(rmtree, folder, ignore_errors=True)
    with store_errors(store.uri):
        return fetch(resolve(store, reference), folder)


def _trained(project: Project) -> dict[str, Path]:
    """Checkpoints by name; a name that the pipeline and a training by hand share means the pipeline's."""
    found: dict[str, Path] = {}
    for folder in checkpoint_folders(project):  # those of the pipeline first
        first = found.setdefault(folder.name, folder)
        if first != folder and read_card(first).weights_sha256 != read_card(folder).weights_sha256:
            mine, theirs = (one.relative_to(project.root) for one in (folder, first))
            say(f"{folder.name} means {theirs}, which the pipeline trained; name {mine} to use that one")
    return found


def _checkpoint(project: Project, name: str, trained: dict[str, Path]) -> Path | None:
    """The folder of a name, without the zoo; None where there is none."""
    if name.startswith(REGISTRY):
        return registered(project, name)
    if name in trained:
        return trained[name]
    return Path(name).resolve() if (Path(name) / CARD).is_file() else None


def _from_outside(project: Project, folder: Path, trained: dict[str, Path]) -> TrainedModel:
    """A checkpoint from outside; its name must not be a trained model's, since results are kept by name.

    One that was trained by hand may replace the pipeline's result: its summary says so (`by_hand`).
    """
    model = TrainedModel(folder)
    mine = trained.get(model.name)
    if mine is not None and mine.resolve() != folder and folder.parent != project.runs.resolve():
        raise InputError(
            f"{folder} calls itself {model.name!r}, which is {mine} here, and would replace its results: "
            f"change the name in its {CARD}"
        )
    return model


def _from_zoo(project: Project, classes: Classes, name: str, trained: list[str]) -> list[Source]:
    zoo = read_zoo(project.zoo)
    try:
        return [_fetched(project, zoo, found, classes) for found in zoo.select([name])]
    except InputError:
        if name in (listed := read_trainings(project.trainings)):
            how = f"advalign train {listed[name].recipe} --model {listed[name].model}"
            raise InputError(f"{name} is not trained here: `{how}` trains it, see registry/trainings.yaml") from None
        raise unknown_name("model", name, [*trained, *zoo.models]) from None


def _fetched(project: Project, zoo: Zoo, name: str, classes: Classes) -> FetchedModel:
    return FetchedModel(
        name=name,
        entry=zoo.models[name],
        weights=zoo.weights_of(name),
        folder=project.fetched / name,
        root=project.home,
        classes=class_cards(classes),
        decisions=DECISIONS,
        download=lambda uri: registered(project, uri),
        remembered=project.digests,
    )


def _distinct(sources: list[Source]) -> list[Source]:
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{twice[0]!r} is named twice: results are kept by name, so evaluate one at a time")
    check_distinct(names, "the models to evaluate")
    return sources
