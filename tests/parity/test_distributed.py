"""Two processes train as one does: losses, gradients, weights, rows of history, saved states, and how they end."""

import math
import os
import signal
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from advalign import catalog
from advalign.data.augmentation import Sample
from advalign.data.batches import Share, TrainingData
from advalign.errors import AdvalignError
from advalign.models.zoo import create_classifier
from advalign.recipes.base import Recipe
from advalign.recipes.baseline import Baseline
from advalign.settings import TrainSettings
from advalign.training.interruption import Interrupted
from advalign.training.loop import Fit
from advalign.training.optimisation import Mixing
from advalign.training.synced_batch_norm import synchronise_batch_norms
from advalign.training.world import World, joined
from tests.team.processes import Process, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]
torch.set_num_threads(1)

SIZE, CLASSES, BATCH = 32, 5, 16
VIT = {"img_size": SIZE, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}
NETWORKS = {  # architecture, its arguments, settings
    "transformer": ("vit_tiny_patch16_224", VIT, {}),
    "batch-norm": ("test_resnet", {}, {"sync_batch_norm": True}),
}
BALL = {"eps": 1.0, "steps": 3}
ALIGNED = {"beta": 2.0, "removal": 1.0}
SOME = {**BALL, "eps": 0.03, "random_start": False}
OWN = {
    "robust": BALL, "combined": BALL, "adversarial": SOME,
    "aligned": ALIGNED, "aligned-adversarial": {**SOME, **ALIGNED},
}  # fmt: skip
EXPLAINED = {  # by the aligned recipes: architecture's arguments, settings
    "transformer": ({}, {"explanation": "rollout"}),
    "batch-norm": ({"output_stride": 8}, {}),  # leaves a last map of 4x4
}
SEARCHING = ("robust", "combined", "adversarial", "aligned-adversarial")  # with PGD
RECIPES = [name for name in catalog.names("recipe") if name != "noise"]  # its draw is a part's: tested below


class Noise:
    """Images in memory: noise whose mean colour tells the class. Two of three have a map, and three of four a brain
    response, unless it is said who has.
    """

    def __init__(self, count, seed, mapped=None, answered=None):
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, CLASSES, count)
        self.pixels = random.integers(0, 130, (count, SIZE, SIZE, 3)).astype(np.uint8)
        self.pixels[np.arange(count), ..., 0] += (20 * self.labels).astype(np.uint8)[:, None, None]
        self.maps = random.integers(0, 256, (count, SIZE, SIZE)).astype(np.uint8)
        self.mapped = [number % 3 > 0 for number in range(count)] if mapped is None else mapped
        self.responses = random.normal(size=(count, 6)).astype(np.float32)
        self.responses[[not one for one in answered] if answered else np.s_[::4]] = np.nan
        self.asked = []

    def __len__(self):
        return len(self.labels)

    def read(self, number):
        self.asked.append(number)
        heatmap = self.maps[number] if self.mapped[number] else None
        return Sample(self.pixels[number], heatmap, int(self.labels[number]), self.responses[number])


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        exact: computed in float64, where rounding cannot hide a wrong factor.
        images, watched: how many are trained on, and watched.
        mapped, answered: who of the images has a map, a response.
        values: of TrainSettings; own: of the recipe.
        arguments: further ones of the architecture.
    """

    recipe: str = "baseline"
    network: str = "transformer"
    exact: bool = False
    images: int = BATCH
    watched: int = 21
    mapped: tuple[bool, ...] | None = None
    answered: tuple[bool, ...] | None = None
    values: dict = field(default_factory=dict)
    own: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)


class InDoubles(Recipe):
    """A recipe that sees its batch in float64."""

    def __init__(self, inner):
        super().__init__(Recipe.Settings())
        self.inner = inner

    def published_name(self, architecture):
        return self.inner.published_name(architecture)

    def __call__(self, classifier, batch, position):
        mixture = None if batch.mixture is None else batch.mixture.double()
        doubles = replace(batch, images=batch.images.double(), heatmaps=batch.heatmaps.double(), mixture=mixture)
        return self.inner(classifier, doubles, position)

    def learned(self, classifier, images, seed):
        return self.inner.learned(classifier, images, seed)


class Doubled(TrainingData):
    """Data whose plain pass, which no recipe sees, is in float64 too."""

    def all(self, share):
        return (replace(batch, images=batch.images.double()) for batch in super().all(share))


def make_fit(case, folder, world):
    architecture, arguments, values = NETWORKS[case.network]
    settings = TrainSettings(size=SIZE, epochs=1, batch_size=BATCH, shift=1, threads=1, warmup=0.25)
    settings = settings.model_copy(update={**values, **case.values})
    recipe_class = catalog.load("recipe", case.recipe)
    explained = EXPLAINED[case.network] if "aligned" in case.recipe else ({}, {})
    arguments = arguments | explained[0]
    recipe = recipe_class(recipe_class.Settings(**{**OWN.get(case.recipe, {}), **explained[1], **case.own}), 0.1)
    known = Noise(70, 1)
    recipe.guided_by(torch.from_numpy(known.responses[1::4]), torch.from_numpy(known.labels[1::4]))
    classifier = create_classifier(
        architecture, CLASSES, SIZE, seed=0, arguments={**arguments, **case.arguments},
        twice_differentiable=recipe.twice_differentiable,
    )  # fmt: skip
    if settings.sync_batch_norm:
        synchronise_batch_norms(classifier.network)
    if case.exact:
        classifier, recipe = classifier.double(), InDoubles(recipe)
    kind = Doubled if case.exact else TrainingData
    return Fit(
        classifier,
        recipe,
        TrainingData(Noise(case.images, 1, case.mapped, case.answered), settings),
        kind(Noise(case.watched, 2), settings),
        settings,
        seed=3,
        identity="a",
        state_file=folder / "state.pt",
        world=world,
        mixing=Mixing(settings, CLASSES) if settings.mixup or settings.cutmix else None,
    )


class Gradients:
    """Keeps the gradients of the last step."""

    def __init__(self, fit):
        self.fit, self.kept = fit, {}

    def on_step(self, position):
        self.kept = {name: value.grad.clone() for name, value in self.fit.classifier.named_parameters()}

    def on_report(self, row):
        pass

    def on_epoch(self, row):
        pass


def clones(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def outcome(fit):
    """Train to the end; what came out."""
    watcher = Gradients(fit)
    history = fit.run([watcher])
    return {"history": history, "gradients": watcher.kept, "weights": clones(fit.result.network)}


def train_case(case, folder, world):
    return outcome(make_fit(case, folder, world))


def member(function, *arguments):
    """One of the processes: join the others, do it, save what it gives or what it raised."""
    torch.set_num_threads(1)
    saved = {"raised": None}
    try:
        with joined("cpu") as world:
            saved |= function(*arguments, world) or {}
    except AdvalignError as error:
        saved["raised"] = (type(error).__name__, str(error))
    torch.save(saved, f"{os.environ['RANK']}.pt")


def begin(root, ranks, function, *arguments):
    """Start processes as `torchrun` does."""
    root.mkdir(parents=True, exist_ok=True)
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Process(
            root, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            member, function, *arguments,
        )
        for rank in range(ranks)
    ]  # fmt: skip


def together(root, ranks, function, *arguments):
    """What each of some processes saved; a hang or a crash of one fails."""
    started = begin(root, ranks, function, *arguments)
    try:
        for one in started:
            assert one.wait() == 0, "\n".join(each.errors() for each in started)
    finally:
        for one in started:
            one.process.kill()
    return [torch.load(root / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def both(case, tmp_path, **alone):
    """Two processes' outcomes, and one process's (whose settings may differ)."""
    (tmp_path / "one").mkdir(parents=True)
    expected = train_case(replace(case, **alone), tmp_path / "one", World())
    return together(tmp_path / "two", 2, train_case, case, tmp_path / "two"), expected


def worst(got, expected, floor=1e-3):
    """Largest difference of each tensor relative to its largest value, or to that share of the largest of all."""
    assert got.keys() == expected.keys()
    lowest = floor * max(value.abs().max().item() for value in expected.values())
    return max(
        ((got[name] - value).abs().max() / max(value.abs().max().item(), lowest)).item()
        for name, value in expected.items()
    )


every_recipe = pytest.mark.parametrize("recipe", RECIPES)
every_network = pytest.mark.parametrize("network", list(NETWORKS))


@every_network
@every_recipe
def test_one_step(tmp_path, recipe, network):
    """As it is trained: in float32. What is left of features when a class's mean is taken off is small in an untrained
    transformer, and the share of its variance in a subspace as many times less exact.
    """
    case = Case(recipe, network, values={"clip_norm": None})
    tolerance = 5e-4 if recipe == "manifold-guided" else 1e-5
    (first, second), one = both(case, tmp_path)
    assert first["history"][0] == pytest.approx(one["history"][0], rel=1e-5)
    assert first["history"] == second["history"]
    terms = {"map_term", "saliency_term"} & {*one["history"][0]}
    assert bool(terms) == catalog.load("recipe", recipe).twice_differentiable
    assert worst(first["gradients"], one["gradients"]) <= tolerance
    assert all(torch.equal(value, second["gradients"][name]) for name, value in first["gradients"].items())


@every_network
@every_recipe
def test_one_step_exactly(tmp_path, recipe, network):
    """In float64. Where PGD is searched for, its step divides by the gradient's norm + 1e-10, and a rank's gradient is
    twice as large as its part of the whole batch's: that is no rounding, and stays.
    """
    case = Case(recipe, network, exact=True, values={"clip_norm": None})
    (first, _), one = both(case, tmp_path)
    tolerance = 1e-7 if recipe in SEARCHING else 1e-12
    assert first["history"][0] == pytest.approx(one["history"][0], rel=tolerance)
    assert worst(first["gradients"], one["gradients"]) <= tolerance


@every_network
@every_recipe
def test_a_few_steps_of_adamw(tmp_path, recipe, network):
    """In float64, as AdamW divides a gradient by its own size: what of it is nothing but rounding becomes a full step
    of either sign, and in float32 weights are 5e-3 apart after eight steps whose losses agree to 1e-7. What remains:
    PGD's 1e-10 (see above), and running statistics, which processes exchange in float32.
    """
    case = Case(recipe, network, exact=True, images=70, values={"epochs": 2})
    (first, second), one = both(case, tmp_path)
    for got, expected in zip(first["history"], one["history"], strict=True):
        assert got == pytest.approx(expected, rel=1e-7 if recipe in SEARCHING else 1e-12)
    assert first["history"] == second["history"]
    assert worst(first["weights"], one["weights"]) <= 1e-5


@every_recipe
def test_a_few_steps_of_sgd(tmp_path, recipe):
    """In float32: SGD takes a gradient as it is, so that rounding stays rounding. Not with batch norms and PGD, where
    ReLUs on the other side of zero make a difference grow from step to step. The aligned recipes have the
    paper's weights here: a standardised rollout divides by the spread of maps that hardly differ at first.
    """
    own = {"beta": 0.1, "removal": 0.0} if "aligned" in recipe else {}
    case = Case(recipe, images=70, values={"epochs": 2, "optimiser": "momentum", "learning_rate": 0.05}, own=own)
    (first, _), one = both(case, tmp_path)
    for got, expected in zip(first["history"], one["history"], strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
    assert worst(first["weights"], one["weights"]) <= 1e-5


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_are_the_batch(tmp_path, accumulate):
    """Each process computes its share in parts, and one process has the whole batch at once."""
    case = Case("harmonized", exact=True, images=2 * BATCH, values={"accumulate": accumulate})
    (first, _), one = both(case, tmp_path, values={})
    assert first["history"][0] == pytest.approx(one["history"][0], rel=1e-12)
    assert worst(first["gradients"], one["gradients"]) <= 1e-12


@pytest.mark.parametrize("recipe", ["robust", "adversarial", "harmonized", "noise"])
def test_what_is_drawn_belongs_to_a_part_of_the_batch_whoever_computes_it(tmp_path, recipe):
    """Mixed images, dropped units, random starts, noise: two processes draw what one does that computes in two."""
    values = {"mixup": 0.5, "cutmix": 0.5}
    own = {"random_start": True} if recipe in ("robust", "adversarial") else {}
    case = Case(recipe, exact=True, images=3 * BATCH, values=values, own=own, arguments={"drop_rate": 0.3})
    (first, _), one = both(case, tmp_path, values={**values, "accumulate": 2})
    assert first["history"][0] == pytest.approx(one["history"][0], rel=1e-7)
    assert worst(first["gradients"], one["gradients"]) <= 1e-6


@every_network
@pytest.mark.parametrize("recipe", ["harmonized", "combined"])
def test_a_process_whose_images_have_no_maps(tmp_path, recipe, network):
    """One of 16 images has a map: the other process must take the same passes, and the mean is over both."""
    mapped = (True, *[False] * (BATCH - 1))
    (first, _), one = both(Case(recipe, network, exact=True, mapped=mapped, values={"clip_norm": None}), tmp_path)
    assert one["history"][0]["map_term"] > 0
    assert first["history"][0] == pytest.approx(one["history"][0], rel=1e-7)
    assert worst(first["gradients"], one["gradients"]) <= 1e-7


GUIDED = [
    ("guided", {"loss": "cka"}, 16), ("manifold-guided", {"a2": 0.0}, 16),
    ("guided", {}, 4), ("guided", {"loss": "cka"}, 4), ("manifold-guided", {}, 4),
]  # fmt: skip


@every_network
@pytest.mark.parametrize(("recipe", "own", "answered"), GUIDED)
def test_responses_are_compared_over_all_processes(tmp_path, recipe, network, own, answered):
    """Of the whole batch, whoever computes it; four of 16 images have a response, and may all be in one process."""
    who = tuple(number < answered for number in range(BATCH))
    (first, second), one = both(
        Case(recipe, network, exact=True, answered=who, own=own, values={"clip_norm": None}), tmp_path
    )
    term = "manifold_term" if recipe == "manifold-guided" else "neural_term"
    assert one["history"][0][term] > 0
    assert first["history"][0] == pytest.approx(one["history"][0], rel=1e-12)
    assert first["history"] == second["history"]
    assert worst(first["gradients"], one["gradients"]) <= 1e-12


@pytest.mark.parametrize("watched", [517, 21, 1])
def test_accuracy_over_processes(tmp_path, watched):
    """Also where their batches are not equally long, and where one has nothing to look at."""
    case = Case(watched=watched, images=2 * BATCH, values={"ema": 0.5})
    (first, second), one = both(case, tmp_path)
    assert first["history"] == second["history"]
    assert first["history"][0]["val_accuracy"] == one["history"][0]["val_accuracy"]
    assert first["history"][0]["train_accuracy"] == one["history"][0]["train_accuracy"]


def statistics_case(**values):
    """Batch norms, each process's own; the rate is so small that weights stay as they are."""
    values = {"sync_batch_norm": False, "learning_rate": 1e-30, **values}
    return Case("baseline", "batch-norm", images=3 * BATCH, watched=517, values=values)


@pytest.mark.parametrize("values", [{}, {"ema": 0.9}])
def test_running_statistics_are_the_first_process_s(tmp_path, values):
    case = statistics_case(**values)
    first, second = together(tmp_path, 2, train_case, case, tmp_path)
    alone = make_fit(case, tmp_path / "alone", World())
    alone.classifier.train()
    with torch.no_grad():
        for step, batch in enumerate(alone.data.epoch(3, 0, Share(0, 2))):
            alone.classifier(batch.images)
            if alone.average:
                alone.average.after(alone.classifier, step)
    expected = {name: value for name, value in clones(alone.result.network).items() if "running" in name}
    assert len(expected) > 10
    assert worst({name: first["weights"][name] for name in expected}, expected) <= 1e-6
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    alone.result.network.load_state_dict(first["weights"])
    alone.history = []
    assert first["history"][0]["val_accuracy"] == alone._accuracy(), "of what is kept"


class Spoilt(Baseline):
    """Baseline; at a step of one process something is not finite."""

    def __init__(self, what, step):
        super().__init__(Baseline.Settings())
        self.what, self.step = what, step

    def __call__(self, classifier, batch, position):
        result = super().__call__(classifier, batch, position)
        if position.step == self.step and os.environ.get("RANK") == "1":
            spoilt = result["logits"][0, 0] * 0
            result["loss"] = result["loss"] + (spoilt.sqrt() if self.what == "gradient" else spoilt + math.nan)
        return result


def spoilt_case(what, folder, world):
    fit = make_fit(Case(images=70, values={"epochs": 2}), folder, world)
    fit.recipe = Spoilt(what, 5)
    fit.run([])


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_process_that_is_not_finite_stops_all(tmp_path, what):
    ranks = together(tmp_path, 2, spoilt_case, what, tmp_path)
    for rank in ranks:
        kind, line = rank["raised"]
        assert kind == "AdvalignError"
        assert "became nan at step 6: lower train.learning_rate; the last good state is" in line
        assert "\n" not in line
    assert f"the {what} became" in ranks[1]["raised"][1]
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(value.isfinite().all() for value in saved["network"].values())
    assert (len(saved["history"]), saved["done"]) == (1, 0)


def damaged_case(folder, world):
    fit = make_fit(Case(images=70), folder, world)
    if world.share.rank == 1:
        fit.data.images.read = raise_damaged
    fit.run([])


def raise_damaged(number):
    raise AdvalignError(f"image {number} is damaged")


def test_a_process_that_cannot_read_ends_and_so_do_the_others(tmp_path):
    first, second = begin(tmp_path, 2, damaged_case, tmp_path)
    assert second.wait() == 0
    kind, line = torch.load(tmp_path / "1.pt", weights_only=False)["raised"]
    assert kind == "AdvalignError"
    assert line.endswith("is damaged")
    first.wait()  # it must not wait for the other for ever


class Ender:
    """Sends SIGTERM to a process at a step."""

    def __init__(self, fit, rank, step):
        self.wanted = fit.world.share.rank == rank
        self.step = step

    def on_step(self, position):
        if self.wanted and position.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_report(self, row):
        pass

    def on_epoch(self, row):
        pass


def ended_case(case, folder, rank, step, world):
    fit = make_fit(case, folder, world)
    fit.run([Ender(fit, rank, step)])


def resumed_case(case, folder, world):
    """Go on, and say which images were read."""
    fit = make_fit(case, folder, world)
    return outcome(fit) | {"asked": fit.data.images.asked}


LONG = Case("harmonized", "batch-norm", images=70, values={"epochs": 3, "ema": 0.9})  # 12 steps
LONGS = {
    "everything in common": LONG,
    "own statistics": replace(LONG, recipe="robust", values={**LONG.values, "sync_batch_norm": False}),
}
EXACT = replace(LONG, network="transformer", exact=True)


def end(case, root, ranks, rank, step):
    """A training that is ended by SIGTERM to one of its processes."""
    saved = together(root, ranks, ended_case, case, root, rank, step)
    for one in saved:
        kind, line = one["raised"]
        assert kind == Interrupted.__name__
        assert line.startswith(f"SIGTERM after step {step + 1} of 12: the state is kept in {root / 'state.pt'}")
    state = torch.load(root / "state.pt", weights_only=True)
    assert (len(state["history"]), state["done"]) == (step // 4, step % 4 + 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both processes of each of LONGS."""
    roots = {name: tmp_path_factory.mktemp("undisturbed") for name in LONGS}
    return {name: together(root, 2, resumed_case, LONGS[name], root) for name, root in roots.items()}


@pytest.mark.parametrize(
    ("name", "rank", "step"),
    [
        ("everything in common", 1, 5),  # in the middle of an epoch
        ("everything in common", 0, 11),  # after the last step
        ("own statistics", 0, 5),
        ("own statistics", 1, 0),
        ("own statistics", 1, 7),  # at the end of an epoch
    ],
)
def test_sigterm_to_one_process_saves_and_stops_all_and_they_go_on(tmp_path, undisturbed, name, rank, step):
    """To the same bits: a state holds one process's running statistics, which PGD searches with in all of them."""
    end(LONGS[name], tmp_path, 2, rank, step)
    resumed = together(tmp_path, 2, resumed_case, LONGS[name], tmp_path)
    for got, expected in zip(resumed, undisturbed[name], strict=True):
        assert all(torch.equal(got["weights"][key], value) for key, value in expected["weights"].items())
        for row, whole in zip(got["history"], expected["history"], strict=True):
            assert row == pytest.approx(whole, rel=1e-12)  # sums of an epoch are added up in another order
        assert got["asked"] == expected["asked"][(step + 1) * BATCH // 2 :]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(tmp_path, before, after):
    """With the images that were left, and to the same weights."""
    whole = resumed_case(EXACT, tmp_path / "whole", World())
    end(EXACT, tmp_path / "ended", before, before - 1, 5)
    resumed = together(tmp_path / "ended", after, resumed_case, EXACT, tmp_path / "ended")
    shares = [torch.tensor(rank["asked"]).view(6, -1) for rank in resumed]
    assert torch.cat(shares, 1).flatten().tolist() == whole["asked"][6 * BATCH :]
    assert worst(resumed[0]["weights"], whole["weights"]) <= 1e-6
    for row, expected in zip(resumed[0]["history"], whole["history"], strict=True):
        assert row == pytest.approx(expected, rel=1e-10)
