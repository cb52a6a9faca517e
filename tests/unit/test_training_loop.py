"""The training loop on a tiny synthetic task: it learns, repeats to the bit, resumes, and stops where it must."""

import ast
import inspect
import math

import pytest
import torch
from torch import nn

from advalign.data.batches import TrainingData
from advalign.errors import AdvalignError
from advalign.models.classifier import Classifier, Preprocessing
from advalign.recipes.base import Recipe
from advalign.recipes.baseline import Baseline
from advalign.settings import TrainSettings
from advalign.training import loop
from advalign.training.loop import Fit

torch.set_num_threads(1)

COUNT, SIZE, CLASSES, BATCH = 70, 12, 3, 16
PER_EPOCH = COUNT // BATCH  # 4, the incomplete batch is left out
SETTINGS = TrainSettings(epochs=4, batch_size=BATCH, learning_rate=1e-2, warmup=0.25, shift=1, threads=1)


def data(seed, count=COUNT):
    """Noise whose mean colour tells the class; the map is the first channel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    pixels = torch.randint(0, 130, (count, 3, SIZE, SIZE), generator=generator)
    pixels[torch.arange(count), labels] += 80
    return TrainingData(pixels.to(torch.uint8), pixels[:, 0].float() / 255, labels)


def classifier(seed=0):
    """With everything that a state must hold: running statistics and a layer that draws random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(32, CLASSES),
        )  # fmt: skip
    return Classifier(network, Preprocessing(input_size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3))


def fit(tmp_path, recipe=None, seed=0, weights=0, identity="a", **values):
    return Fit(
        classifier=classifier(weights),
        recipe=recipe or Baseline(Baseline.Settings()),
        data=data(1),
        validation=data(2, 40),
        settings=SETTINGS.model_copy(update=values),
        seed=seed,
        identity=identity,
        state_file=tmp_path / "state.pt",
        device=torch.device("cpu"),
    )


def state(trained):
    return {name: value.clone() for name, value in trained.classifier.network.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class Watcher:
    """Keeps what it is told; raises at a given step or after a given epoch."""

    def __init__(self, stop_step=None, stop_epoch=None, look=lambda: None):
        self.steps, self.rows, self.seen = [], [], []
        self.stop_step, self.stop_epoch, self.look = stop_step, stop_epoch, look

    def on_step(self, position):
        self.steps.append((position.step, position.steps))
        self.seen.append(self.look())
        if position.step == self.stop_step:
            raise KeyboardInterrupt

    def on_epoch(self, row):
        self.rows.append(row)
        if row["epoch"] == self.stop_epoch:
            raise KeyboardInterrupt


def test_it_learns_and_its_rows_say_so(tmp_path):
    trained = fit(tmp_path)
    history = trained.run([])
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["step"] for row in history] == [PER_EPOCH * epoch for epoch in (1, 2, 3, 4)]
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert history[0]["loss"] == pytest.approx(math.log(CLASSES), abs=0.5)
    assert history[-1]["val_accuracy"] > 0.8
    assert not any(module.training for module in trained.classifier.modules())
    with torch.no_grad():
        images, labels = data(2, 40).pixels.float() / 255, data(2, 40).labels
        accuracy = (trained.classifier(images).argmax(1) == labels).float().mean().item()
    assert history[-1]["val_accuracy"] == pytest.approx(accuracy)
    assert set(history[0]) == {"epoch", "step", "loss", "train_accuracy", "val_accuracy", "learning_rate"}


def test_two_trainings_are_the_same_to_the_bit_and_another_seed_is_another_training(tmp_path):
    first, second, other = (fit(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    torch.manual_seed(5)
    first.run([])
    torch.manual_seed(6)
    second.run([])
    other.run([])
    assert_same(state(first), state(second))
    assert first.history == second.history
    assert first.history != other.history


@pytest.mark.parametrize(
    "stop", [{"stop_epoch": 1}, {"stop_epoch": 3}, {"stop_step": 0}, {"stop_step": 2 * PER_EPOCH + 1}]
)
def test_a_training_that_was_cut_off_ends_in_the_same_bits(tmp_path, stop):
    whole = fit(tmp_path / "whole")
    whole.run([])
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut").run([Watcher(**stop)])
    resumed, watcher = fit(tmp_path / "cut", weights=9), Watcher()  # its fresh weights must not matter ...
    if stop.get("stop_step") == 0:
        resumed = fit(tmp_path / "cut")  # ... unless nothing was saved yet
    history = resumed.run([watcher])
    assert_same(state(resumed), state(whole))
    assert history == whole.history == watcher.rows
    done = stop.get("stop_epoch", stop.get("stop_step", 0) // PER_EPOCH)
    assert [step for step, _ in watcher.steps] == list(range(done * PER_EPOCH, 4 * PER_EPOCH))


def test_a_finished_training_that_is_asked_again_only_tells_its_rows(tmp_path):
    first = fit(tmp_path)
    history, watcher = first.run([]), Watcher()
    again = fit(tmp_path, weights=9)
    assert again.run([watcher]) == history == watcher.rows
    assert watcher.steps == []
    assert_same(state(again), state(first))


def test_a_state_of_another_identity_is_ignored(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, seed=3, identity="b").run([Watcher(stop_epoch=2)])
    trained, fresh = fit(tmp_path, identity="a"), fit(tmp_path / "fresh", identity="a")
    trained.run([])
    fresh.run([])
    assert_same(state(trained), state(fresh))
    assert trained.history == fresh.history
    assert torch.load(tmp_path / "state.pt", weights_only=True)["identity"] == "a"


def test_the_state_is_kept_after_every_epoch_in_one_move(tmp_path):
    kept = []
    look = Watcher()
    look.on_epoch = lambda row: kept.append(len(torch.load(tmp_path / "state.pt", weights_only=True)["history"]))
    fit(tmp_path).run([look])
    assert kept == [1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_observers_get_every_step_and_every_epoch(tmp_path):
    first, second = Watcher(), Watcher()
    history = fit(tmp_path).run(iter([first, second]))
    steps = [(step, 4 * PER_EPOCH) for step in range(4 * PER_EPOCH)]
    assert first.steps == second.steps == steps
    assert first.rows == second.rows == history


class Spoilt(Recipe):
    """Baseline until a given step; then a loss or a gradient that is not finite."""

    def __init__(self, step, value=None):
        super().__init__(Recipe.Settings())
        self.step, self.value = step, value

    def published_name(self, architecture):
        return architecture

    def __call__(self, model, batch, position):
        logits = model(batch.images)
        loss = nn.functional.cross_entropy(logits, batch.labels)
        if position.step == self.step:
            loss = loss * self.value if self.value is not None else loss + (logits[0, 0] * 0).sqrt()
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 6, 4 * PER_EPOCH - 1])
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(tmp_path, value, step):
    trained, watcher = fit(tmp_path, Spoilt(step, value)), Watcher()
    with pytest.raises(AdvalignError, match=rf"at step {step + 1}\b.*learning_rate") as caught:
        trained.run([watcher])
    assert "\n" not in str(caught.value)
    assert len(watcher.steps) == step
    assert all(value.isfinite().all() for value in state(trained).values())


@pytest.mark.parametrize("step", [6, PER_EPOCH - 1, 4 * PER_EPOCH - 1])
def test_a_gradient_that_is_not_finite_does_not_spoil_the_weights_unnoticed(tmp_path, step):
    """Its loss is finite; were it applied, the next state on disk would hold NaN and be called the last good one."""
    trained = fit(tmp_path, Spoilt(step))
    with pytest.raises(AdvalignError, match=rf"at step {step + 1}\b"):
        trained.run([])
    if (tmp_path / "state.pt").exists():
        saved = torch.load(tmp_path / "state.pt", weights_only=True)["network"]
        assert all(value.isfinite().all() for value in saved.values())


def test_the_learning_rate_rises_and_falls_as_one_cycle(tmp_path):
    trained = fit(tmp_path)
    rate, total = SETTINGS.learning_rate, 4 * PER_EPOCH
    watcher = Watcher(look=lambda: trained.optimiser.param_groups[0]["lr"])
    history = trained.run([watcher])
    turn = 0.25 * total - 1

    def cosine(first, last, share):
        return last + (first - last) * (1 + math.cos(math.pi * share)) / 2

    expected = [cosine(rate / 10, rate, step / turn) for step in range(4)]
    expected += [cosine(rate, rate / 1000, (step - turn) / (total - 1 - turn)) for step in range(4, total + 1)]
    assert watcher.seen == pytest.approx(expected[1:], rel=1e-4)
    assert watcher.seen[-2] == pytest.approx(rate / 1000, rel=1e-4)  # the rate of the last step that is taken
    assert max(watcher.seen) == pytest.approx(rate)
    assert [row["learning_rate"] for row in history] == pytest.approx(watcher.seen[PER_EPOCH - 1 :: PER_EPOCH])


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.25), (1, 0.15), (2, 0.125), (2, 0.5), (1, 0.9), (1, 0.01)])
def test_every_warmup_that_the_settings_allow_can_be_trained(tmp_path, epochs, warmup):
    assert TrainSettings(epochs=epochs, warmup=warmup)
    assert len(fit(tmp_path, epochs=epochs, warmup=warmup).run([])) == epochs


def test_gradients_are_clipped_and_norms_and_biases_are_not_decayed(tmp_path):
    class Steep(Baseline):
        def __call__(self, model, batch, position):
            result = super().__call__(model, batch, position)
            return result | {"loss": 1000 * result["loss"], "part": result["loss"].detach()}

    trained = fit(tmp_path, Steep(Baseline.Settings()), epochs=1, warmup=0.5, clip_norm=0.7)
    parameters = list(trained.classifier.parameters())
    watcher = Watcher(look=lambda: math.sqrt(sum(float(p.grad.square().sum()) for p in parameters)))
    history = trained.run([watcher])
    assert watcher.seen == pytest.approx([0.7] * PER_EPOCH, rel=1e-4)
    assert history[0]["part"] == pytest.approx(history[0]["loss"] / 1000, rel=1e-5)
    decayed = {group["weight_decay"]: len(group["params"]) for group in trained.optimiser.param_groups}
    assert decayed == {SETTINGS.weight_decay: 2, 0.0: 4}


def test_an_epoch_is_a_shuffle_augmented_together_with_its_maps():
    batches = list(data(1).epoch(BATCH, 2, seed=4, epoch=1))
    assert [len(batch) for batch in batches] == [BATCH] * PER_EPOCH
    assert all(torch.equal(batch.images[:, 0], batch.heatmaps) for batch in batches)  # the map is the first channel
    again, later = data(1).epoch(BATCH, 2, seed=4, epoch=1), data(1).epoch(BATCH, 2, seed=4, epoch=2)
    assert all(torch.equal(one.images, two.images) for one, two in zip(batches, again, strict=True))
    assert not torch.equal(batches[0].images, next(later).images)
    plain = torch.cat([batch.images for batch in data(1).epoch(BATCH, 0, seed=4, epoch=1)])
    originals = data(1).pixels.float() / 255
    same = (plain[:, None] == originals[None]).flatten(2).all(2)
    mirrored = (plain[:, None] == originals.flip(3)[None]).flatten(2).all(2)
    assert ((same | mirrored).sum(1) == 1).all()
    assert (same | mirrored).sum(0).max() == 1, "no image twice in an epoch"
    assert 0.3 < mirrored.any(1).float().mean() < 0.7
    assert torch.equal(torch.cat([batch.images for batch in data(1).all(32)]), originals)


def test_the_loop_knows_no_recipe():
    imported = set()
    for node in ast.walk(ast.parse(inspect.getsource(loop))):
        if isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    recipes = {name for name in imported if "recipes" in name}
    assert recipes == {"advalign.recipes.base.Position", "advalign.recipes.base.Recipe"}
    assert not any("catalog" in name or "importlib" in name for name in imported)
