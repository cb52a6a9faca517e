"""A training step of every recipe against the baseline's."""

from collections.abc import Callable, Iterator

import torch

from advalign import catalog
from advalign.data.batches import load_training_data
from advalign.files import Project
from advalign.models.zoo import create_classifier
from advalign.recipes.base import Position
from advalign.settings import load_settings, parse
from benchmarks._timing import ratio
from benchmarks.attacks import markdown


def report(project: Project) -> Iterator[str]:
    """One row per recipe."""
    settings = load_settings(project.root)
    torch.set_num_threads(settings.train.threads)
    data = load_training_data(project, "val", 36, blur_maps=False)
    batch = next(data.epoch(settings.train.batch_size, settings.train.shift, seed=0, epoch=0))

    def step(name: str) -> Callable[[], None]:
        recipe_class = catalog.load("recipe", name)
        recipe = recipe_class(parse(recipe_class.Settings, settings.recipes[name], name))
        twice = recipe.twice_differentiable
        classifier = create_classifier("test_resnet", 36, 64, seed=0, twice_differentiable=twice).train()

        def work() -> None:
            for number in (100, 101):  # an even and an odd step: the map term enters every second one
                recipe(classifier, batch, Position(number, 200))["loss"].backward()

        return work

    baseline = step("baseline")
    others = [name for name in catalog.names("recipe") if name != "baseline"]
    rows = [(name, f"{ratio(step(name), baseline):.1f}") for name in others]
    yield markdown((f"test_resnet, batch {settings.train.batch_size}", "time / a baseline step"), rows)
