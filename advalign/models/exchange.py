"""Weights from and to other software: checkpoints as the robustness package saves them, and plain state dictionaries.

A robustness checkpoint holds the normalisation as well as the network, so mean and std survive an export and import; a
plain state dictionary is the network alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replace_field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from advalign.errors import DataError, InputError, shown
from advalign.files import Project, replacing, sha256
from advalign.models.checkpoints import CARD, HISTORY, WEIGHTS, Card, ClassCard, load_checkpoint, read_card, write_card
from advalign.models.classifier import Classifier
from advalign.models.declared import GROUPS, Zoo, ZooEntry, read_zoo
from advalign.models.fetched import FetchedModel
from advalign.models.origins import origin_of
from advalign.models.origins.timm import current_name
from advalign.models.states import SUFFIXES, read_states
from advalign.names import check_name
from advalign.strict_settings import parse

IMPORTED = "imported"  # key of a card's settings: file and sha256 of what it was imported from
ROBUSTNESS = {"interpolation": "bilinear", "crop": 0.875}  # the transform of the package's own evaluations
NORMALISERS = (("new_mean", "new_std"), ("mean", "std"))  # ends of names: of the robustness package, of RobustBench
TOLERANCE = 1e-4  # between a file's mean and std and those of the zoo, which may be rounded


def export_weights(folder: Path, file: Path, replace: bool = False) -> None:
    """Write a checkpoint's weights in a format that other software reads, and that loads without unpickling code.

    Args:
        folder: the checkpoint's.
        file: to write; .ckpt is a checkpoint of the robustness package, with the card's mean and std in
            its normaliser; .pth, .pt and .safetensors are timm's state dictionary alone.
        replace: whether an existing file may be replaced.

    Raises:
        InputError: unknown suffix, or the file exists.
        DataError: the checkpoint is incomplete or damaged.
    """
    write = WRITERS.get(file.suffix)
    if write is None:
        raise InputError(f"{shown(str(file))}: the suffix decides the format, expected {', '.join(WRITERS)}: rename it")
    if _of_checkpoint(file):
        raise InputError(f"{file} belongs to a checkpoint of advalign, which would be damaged: name another file")
    if file.exists() and not replace:
        raise InputError(f"{file} exists: replace it with --replace, or name another file")
    classifier, card = load_checkpoint(folder)
    with replacing(file) as temporary:
        write(temporary, classifier, card)


@dataclass(frozen=True)
class Stated:
    """What a user states about weights that the zoo does not list; None: not stated.

    Attributes:
        architecture: a timm name, torchvision:NAME or python:package.module:function.
        size: side of the network's input in pixels; default: that of the published weights.
        license: of the weights; default: "unknown".
        recipe: how they were trained; "pretrained" is by others, and no recipe of ours.
        group, baseline: what that recipe says (`recipes.base.Recipe`); group None: the architecture's own.
    """

    architecture: str | None = None
    size: int | None = None
    license: str | None = None
    recipe: str | None = None
    group: str | None = None
    baseline: str | None = None


def import_weights(
    project: Project, file: Path, name: str, stated: Stated, classes: tuple[ClassCard, ...], decisions: tuple[str, ...]
) -> Card:
    """Make a checkpoint folder, outputs/runs/NAME, from a file of weights; nothing in it is unpickled.

    Mean and std are those of the file's normaliser, if it holds one. For a name in registry/zoo.yaml the zoo's entry
    holds, for any other name `stated`.

    Args:
        project: whose outputs and zoo.
        file: as `models.states.read_states` takes it.
        name: the published name.
        stated: architecture, input size, licence, recipe with its group and baseline.
        classes, decisions: of the data, as cards keep them.

    Raises:
        InputError: not a valid name, or the name of a trained model, or `stated` contradicts the zoo.
        DataError: the file is missing, damaged, holds pickled objects, or is of another architecture.
    """
    _check_place(project, check_name(name))
    _check_file(file)
    zoo = read_zoo(project.zoo)
    listed = zoo.models.get(name)
    if stated.architecture is not None:
        stated = replace_field(stated, architecture=current_name(stated.architecture))
    entry = listed or _unlisted(zoo, name, stated)
    normaliser = read_normaliser(read_states(file), str(file))
    transform = {**ROBUSTNESS, **normaliser} if normaliser else {}
    entry = entry.model_copy(update={"preprocessing": {**transform, **entry.preprocessing}})
    place, folder = str(file.resolve()), project.runs / name
    source = FetchedModel(name, entry, place, folder, project.home, classes, decisions, _no_download)
    _check_stated(source, stated, listed)
    _check_normaliser(source, normaliser)
    own = {"recipe": stated.recipe, "group": stated.group or entry.group, "baseline": stated.baseline}
    return _fetch(source, file, {} if listed else own)


def imported_from(card: Card) -> str | None:
    """Name of the file that a checkpoint was imported from; None for a trained one."""
    origin = card.settings.get(IMPORTED)
    return str(origin.get("file")) if isinstance(origin, Mapping) else None


def _fetch(source: FetchedModel, file: Path, told: Mapping[str, str | None]) -> Card:
    """The checkpoint; its card says what is told of it, and names the file without its folder on this machine."""
    card = source.fetch()
    origin = {"file": file.name.encode(errors="backslashreplace").decode(), "sha256": sha256(file)}
    settings = {"zoo": card.settings["zoo"], IMPORTED: origin}
    card = card.model_copy(update={**told, "settings": settings})
    write_card(source.folder, card)
    return card


def _no_download(uri: str) -> Path:
    raise AssertionError(f"an import asks for {uri}")


def _of_checkpoint(file: Path) -> bool:
    """Whether a file is the weights or the card of a checkpoint in this project's format."""
    file = file.resolve()
    return file.name in (WEIGHTS, CARD) and (file.parent / CARD).is_file()


def _check_place(project: Project, name: str) -> None:
    """An import may replace an earlier import, but nothing that was trained."""
    mine = project.runs / name
    trained = (mine / HISTORY).exists() or ((mine / CARD).exists() and imported_from(read_card(mine)) is None)
    for folder, taken in ((mine, trained), (project.checkpoints / name, (project.checkpoints / name).exists())):
        if taken:
            place = folder.relative_to(project.root)
            raise InputError(f"{place} was not imported and is not replaced: import under another name")


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise DataError(f"{file} is missing or not a file: name a file of weights ({', '.join(SUFFIXES)})")
    if _of_checkpoint(file):
        raise InputError(f"{file} belongs to a checkpoint of advalign, which needs no import: use {file.parent}")


def _unlisted(zoo: Zoo, name: str, stated: Stated) -> ZooEntry:
    """The zoo entry of a model that the zoo does not list."""
    architecture = stated.architecture
    if architecture is None:
        raise InputError(f"{name!r} is not listed in registry/zoo.yaml: name its architecture (--model ARCH)")
    origin_of(architecture).preprocessing()  # refuses a name that is not known, and offers others
    if stated.recipe is None:
        raise InputError(
            f"{name!r} is not listed in registry/zoo.yaml: say how it was trained (--recipe; by others: pretrained)"
        )
    group = stated.group if stated.group in GROUPS else zoo.standard_group(architecture)
    if group is None:
        raise InputError(
            f"{architecture!r} of {name} is not declared: add it to registry/zoo.yaml (architectures), or list {name}"
        )
    values = {
        "group": group,
        "architecture": architecture,
        "license": stated.license or "unknown",
        "preprocessing": {} if stated.size is None else {"input_size": stated.size},
    }
    return parse(ZooEntry, values, name)


def _check_stated(source: FetchedModel, stated: Stated, listed: ZooEntry | None) -> None:
    """An option that contradicts the zoo must not be ignored silently."""
    holding = {
        "--model": (stated.architecture, source.architecture),
        "--size": (stated.size, source.preprocessing().input_size),
        "--license": (stated.license, source.entry.license),
        "--recipe": (stated.recipe, listed.recipe if listed else stated.recipe),
    }
    for option, (said, holds) in holding.items():
        if said not in (None, holds):
            raise InputError(
                f"{source.name} is listed in registry/zoo.yaml with {holds!r}, not {said!r}: leave out {option}, "
                "or fix the entry"
            )


def read_normaliser(states: Mapping[str, Mapping[str, Any]], source: str) -> dict[str, list[float]]:
    """Mean and std of the normalisation that wrappers keep with a network (module.normalizer.new_mean, ...).

    Args:
        states: mappings to search (`models.states.read_states`).
        source: the file's name in errors.

    Returns:
        "mean" and "std", three values each, of pixels in [0, 1]; empty if the file holds no normaliser.

    Raises:
        DataError: two that differ, or of other pixels than three channels in [0, 1].
    """
    found = [
        {"mean": _decimals(state[place + mean]), "std": _decimals(state[place + std])}
        for state in states.values()
        for mean, std in NORMALISERS
        for place in [str(name).removesuffix(mean) for name in state if str(name).endswith(f".{mean}")]
        if _per_channel(state[place + mean]) and _per_channel(state.get(place + std))
    ]
    for one in found:
        sound = all(0 <= value <= 1 for value in one["mean"]) and all(0 < value <= 1 for value in one["std"])
        if one != found[0] or not sound:
            raise DataError(
                f"{source} normalises with {shown(one)}, which is not one normalisation of pixels in [0, 1]: "
                "save its network's state alone, and list it in registry/zoo.yaml with its preprocessing"
            )
    return found[0] if found else {}


def _per_channel(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() in (1, 3)


def _decimals(value: Tensor) -> list[float]:
    """Per channel, the shortest decimals that are the same float32: 0.485 where the file has 0.48500001430511475."""
    return [float(str(one)) for one in value.detach().float().flatten().expand(3).numpy()]


def _check_normaliser(source: FetchedModel, normaliser: Mapping[str, list[float]]) -> None:
    """The zoo's normalisation must be the one that the file holds."""
    preprocessing = source.preprocessing().model_dump()
    for key, values in normaliser.items():
        if max(abs(one - other) for one, other in zip(preprocessing[key], values, strict=True)) > TOLERANCE:
            raise DataError(
                f"{source.weights} normalises with {key} {values}, registry/zoo.yaml says {list(preprocessing[key])} "
                f"of {source.name}: fix the entry, or remove it there"
            )


def _network_state(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in classifier.network.state_dict().items()}


def _save(file: Path, content: Mapping[str, Any]) -> None:
    with file.open("wb") as opened:  # torch.save would write a file's temporary name into it
        torch.save(content, opened)


def _write_state(file: Path, classifier: Classifier, card: Card) -> None:
    _save(file, _network_state(classifier))


def _write_safetensors(file: Path, classifier: Classifier, card: Card) -> None:
    save_file(_network_state(classifier), file, metadata={"format": "pt"})


def _write_robustness(file: Path, classifier: Classifier, card: Card) -> None:
    """DataParallel(AttackerModel): the network and its normaliser, and both again inside the attacker."""
    normaliser = {"new_mean": classifier.mean.reshape(3, 1, 1), "new_std": classifier.std.reshape(3, 1, 1)}
    places = {"normalizer": normaliser, "attacker.normalize": normaliser}
    places |= dict.fromkeys(("model", "attacker.model"), _network_state(classifier))
    state = {f"module.{place}.{name}": value for place, part in places.items() for name, value in part.items()}
    train = card.settings.get("train")
    epochs = train.get("epochs") if isinstance(train, Mapping) else None
    # There is no optimiser state: continuing a training without it must fail, not go wrong silently.
    _save(file, {"model": state, "optimizer": None, "schedule": None, "epoch": epochs or 0, "amp": None})


WRITERS: dict[str, Callable[[Path, Classifier, Card], None]] = {
    ".ckpt": _write_robustness,
    ".pth": _write_state,
    ".pt": _write_state,
    ".safetensors": _write_safetensors,
}
