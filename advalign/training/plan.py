"""A training with settled name and identity that has not started."""

from dataclasses import dataclass
from typing import Any

from advalign import catalog
from advalign.closures import closure
from advalign.data.classes import checked_classes
from advalign.data.guided_images import Targets
from advalign.data.response_targets import response_targets
from advalign.data.training_images import data_identity, training_images, validation_images
from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.models.declared import read_zoo
from advalign.models.origins import origin_of
from advalign.models.origins.timm import current_name
from advalign.models.zoo import check_input
from advalign.names import check_name, plain_architecture
from advalign.recipes.base import STANDARD_GROUP, Recipe
from advalign.settings import Settings, Training, TrainSettings, read_trainings
from advalign.strict_settings import digest, parse

TARGETS = "advalign.data.response_targets:response_targets"
NO_MAPS = "there are no train-*.tfrecords in data/clickme"


@dataclass(frozen=True)
class Plan:
    """A training to be run.

    Attributes:
        name: the published name.
        identity: digest of settings, data and code; the same identity gives the same weights on one machine.
        training: architecture and recipe.
        recipe, recipe_settings: with the training's overrides.
        train: the settings that all recipes share, with the training's overrides, as this recipe can use them.
        seed: of weights, shuffling, augmentation.
        group: of its model; None where it is the architecture's own and registry/zoo.yaml does not say it.
        targets: of a recipe that needs brain responses.
    """

    name: str
    identity: str
    training: Training
    recipe: Recipe
    recipe_settings: dict[str, Any]
    train: TrainSettings
    seed: int
    group: str | None
    targets: Targets | None = None

    @property
    def baseline(self) -> str | None:
        """Published name of the twin that its model is compared with."""
        return self.recipe.baseline(self.training.model)

    def used(self) -> dict[str, Any]:
        """The settings, for cards and runs."""
        guided = {"responses": self.targets.told} if self.targets else {}
        return {"recipe": self.recipe_settings, "train": self.train.identity(), **guided}


def plan(project: Project, settings: Settings, training: Training, seed: int | None = None) -> Plan:
    """Resolve a training: settings with overrides, published name, identity.

    Raises:
        InputError: unknown recipe or key, value out of range.
        DataError: data missing, or no training image has a response that the recipe needs.
    """
    origin_of(training.model)  # refuses what cannot name an architecture
    training = settled(training)
    recipe, train = resolve(settings, training)
    seed = settings.seed if seed is None else seed
    classes_file = project.need_data(project.data / "classes.yaml")
    classes = checked_classes(classes_file)
    images, validation = training_images(project, classes, train), validation_images(project, classes, train)
    if recipe.needs_maps and not images.with_map:
        lacking = f"{images.paths[0]} has no object masks" if train.images == "cifar" else NO_MAPS
        raise DataError(f"recipe {training.recipe!r} needs human maps: {lacking}")
    targets = response_targets(project, recipe.settings, images, seed) if recipe.needs_responses else None
    name = check_name(recipe.published_name(plain_architecture(training.model)))
    check_input(training.model, len(classes), train.size, training.arguments)
    kind = type(recipe)
    roots = ["advalign.training.train:train", f"{kind.__module__}:{kind.__name__}"]
    roots += [TARGETS] if targets else []
    identity = digest(
        {
            "architecture": training.model,
            "arguments": training.arguments,
            "own_code": origin_of(training.model).code_sha256(),
            "recipe": training.recipe,
            "recipe_settings": recipe.settings.model_dump(),
            "train": train.identity(),
            "seed": seed,
            "data": [data_identity(one, project.digests) for one in (images, validation)],
            "classes": classes_file.read_text(encoding="utf-8"),
            "code": closure(*roots).digest,
            **({"responses": targets.told} if targets else {}),
        }
    )
    group = _group(project, recipe, training.model)
    return Plan(name, identity, training, recipe, recipe.settings.model_dump(), train, seed, group, targets)


def settled(training: Training) -> Training:
    """The training, with timm's present name where it has a deprecated one.

    Raises:
        InputError: timm has removed the architecture.
    """
    return training.model_copy(update={"model": current_name(training.model)})


def _group(project: Project, recipe: Recipe, architecture: str) -> str | None:
    """The recipe's group, or where it has none of its own that of the architecture."""
    if recipe.group != STANDARD_GROUP:
        return recipe.group
    return read_zoo(project.zoo).standard_group(architecture) if project.zoo.is_file() else None


def resolve(settings: Settings, training: Training) -> tuple[Recipe, TrainSettings]:
    """The recipe, and the settings that all recipes share: params.yaml's values with the training's own.

    A loss with an input gradient is computed in float32, uncompiled and in the usual memory layout: torch.compile
    cannot differentiate twice, channels_last costs more than it saves there, and bfloat16 has not been shown to be safe
    (docs/training.md, section Precision, layout, compilation). A loss that reads what layers compute is uncompiled.

    Raises:
        InputError: unknown recipe or key, value out of range.
    """
    train = parse(TrainSettings, {**settings.train.model_dump(), **training.train}, "train")
    if train.schedule == "onecycle" and train.warmup == 0:
        raise InputError("train.warmup: the schedule onecycle rises first: give a share above 0, got 0")
    recipe = _recipe(settings, training, train.label_smoothing)
    if recipe.needs_responses and (train.mixup or train.cutmix):
        raise InputError(f"recipe {training.recipe!r}: a mixed image has no brain response: set mixup and cutmix to 0")
    if recipe.whole_batch and train.accumulate > 1:
        raise InputError(
            f"recipe {training.recipe!r} compares images of a whole batch: set accumulate to 1, got {train.accumulate}"
        )
    if recipe.watched:  # hooks that are set anew in every step
        train = train.model_copy(update={"compile": False})
    if recipe.twice_differentiable:
        train = train.model_copy(update={"precision": "float32", "channels_last": False, "compile": False})
    return recipe, train


def _recipe(settings: Settings, training: Training, label_smoothing: float = 0.0) -> Recipe:
    recipe_class = catalog.load("recipe", training.recipe)
    values = {**settings.recipes.get(training.recipe, {}), **training.overrides}
    recipe: Recipe = recipe_class(parse(recipe_class.Settings, values, f"recipe {training.recipe!r}"), label_smoothing)
    return recipe


def as_published(project: Project, settings: Settings, training: Training) -> Training:
    """The training of registry/trainings.yaml with this one's published name, overridden by this one's values.

    Returns:
        The training itself if none is listed under its name.
    """
    name = _recipe(settings, training).published_name(plain_architecture(training.model))
    listed = read_trainings(project.trainings).get(name)
    if listed is None:
        return training
    overrides, train = {**listed.overrides, **training.overrides}, {**listed.train, **training.train}
    return listed.model_copy(update={"overrides": overrides, "train": train})
