"""Ratios against named peers, measured in this one process, alternating, the median of several turns.

make bench        # about a minute; needs the sample's trained models (make repro)
"""

import statistics
import time
from collections.abc import Callable

import torch
from scipy.stats import spearmanr

from advalign import catalog
from advalign.attacks.base import protocol
from advalign.data.batches import load_training_data
from advalign.data.stimuli import load_stimuli
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint
from advalign.models.superclasses import GroupedClassifier
from advalign.models.zoo import create_classifier
from advalign.recipes.base import Position
from advalign.settings import load_settings, parse
from advalign.tensors.heatmaps import magnitude_map
from advalign.tensors.ranks import rank_correlation

TURNS = 5


def ratio(ours: Callable[[], object], peer: Callable[[], object], turns: int = TURNS) -> float:
    """Median over turns of our time divided by the peer's, the two run one after the other in each turn."""
    ratios = []
    for _ in range(turns + 1):
        times = []
        for work in (ours, peer):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios[1:])  # the first turn warms up


def rank_correlations() -> None:
    """Batched rank correlation against a loop over scipy's."""
    generator = torch.Generator().manual_seed(0)
    human = (torch.rand(16, 224 * 224, generator=generator) * 255).round() / 255
    found = magnitude_map(torch.randn(16, 3, 224, 224, generator=generator)).flatten(1)
    value = ratio(
        lambda: rank_correlation(found, human),
        lambda: [spearmanr(a, b).statistic for a, b in zip(found.numpy(), human.numpy(), strict=True)],
    )
    print(f"rank correlation, 16 maps of 224x224: {value:.2f} x the time of scipy.stats.spearmanr in a loop")


def attack_budgets(project: Project) -> None:
    """fmn-100 against fmn (1000 passes) on the same stimuli: norms and time."""
    stimuli = load_stimuli(project)
    inputs, labels = stimuli.images[:24], stimuli.labels[:24]
    for name in ("test_resnet.baseline", "test_resnet_l2_eps1"):
        classifier, card = load_checkpoint(project.checkpoints / name)
        grouped = GroupedClassifier(classifier.requires_grad_(False), card.group_of_class)
        norms, times = [], []
        for budget in ("fmn-100", "fmn"):
            start = time.perf_counter()
            norms.append(protocol(budget).attack.run(grouped, inputs, labels).norm_l2)
            times.append(time.perf_counter() - start)
        both = norms[0].isfinite() & norms[1].isfinite()
        mean = float(norms[0][both].mean() / norms[1][both].mean())
        print(f"{name}: fmn-100 has {mean:.4f} x the mean norm of fmn at {times[0] / times[1]:.3f} x its time")


def recipe_costs(project: Project) -> None:
    """A training step of every recipe against the baseline's."""
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
    for name in catalog.names("recipe"):
        if name != "baseline":
            print(f"a {name} step costs {ratio(step(name), baseline):.1f} x a baseline step (test_resnet, batch 64)")


def main() -> None:
    """Run all."""
    project = Project.find()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    rank_correlations()
    recipe_costs(project)
    attack_budgets(project)


if __name__ == "__main__":
    main()
