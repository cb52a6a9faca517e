"""The training loop on a tiny synthetic task: it learns, repeats to the bit, resumes, and stops where it must."""

import ast
import inspect
import math
import os
import signal
import threading

import pytest
import torch
from torch import nn

from advalign.data.batches import Share, TrainingData
from advalign.errors import AdvalignError
from advalign.recipes.base import Recipe
from advalign.recipes.baseline import Baseline
from advalign.recipes.combined import Combined
from advalign.settings import TrainSettings
from advalign.training import loop, speed
from advalign.training.interruption import Interrupted
from tests.tiny_training import BATCH, CLASSES, PER_EPOCH, SETTINGS, Images, Watcher, assert_same, data, fit, state

torch.set_num_threads(1)

STEPS = 4 * PER_EPOCH


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
        images, labels = Images(2, 40).pixels.float() / 255, Images(2, 40).labels
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


@pytest.mark.parametrize("damage", ["a bit", "the end", "everything"])
def test_a_damaged_state_begins_the_training_anew_and_says_so(tmp_path, damage, capsys):
    whole = fit(tmp_path / "whole")
    whole.run([])
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut").run([Watcher(stop_epoch=2)])
    path = tmp_path / "cut" / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"a bit": content, "the end": content[:-100], "everything": b""}[damage])
    resumed, watcher = fit(tmp_path / "cut"), Watcher()
    resumed.run([watcher])
    assert_same(state(resumed), state(whole))
    assert watcher.steps[0] == (0, 4 * PER_EPOCH)
    assert f"{path} is damaged" in capsys.readouterr().err


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


MID = 1e-9  # minutes between saves: after every step
ALL_AT_ONCE = {"ema": 0.9, "accumulate": 2, "mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1}


def goes_on_in_the_middle(tmp_path, **values):
    """Cut off twice, in the middle of the second epoch and before the third one's end: the same bits, the same rows."""
    whole = fit(tmp_path / "whole", **values)
    whole.run([])
    for weights, stop in ((0, PER_EPOCH + 2), (8, 3 * PER_EPOCH - 1)):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut", weights=weights, save_minutes=MID, **values).run([Watcher(stop)])
    resumed, watcher = fit(tmp_path / "cut", weights=9, save_minutes=MID, **values), Watcher()
    assert resumed.run([watcher]) == whole.history == watcher.rows
    assert_same(state(resumed), state(whole))
    assert [step for step, _ in watcher.steps] == list(range(3 * PER_EPOCH - 1, STEPS))  # the step that was not saved
    return whole.history


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "lamb"])
def test_a_training_goes_on_in_the_middle_of_an_epoch(tmp_path, schedule, optimiser):
    """With everything that draws random numbers or keeps a state of its own; dropout and batch norms are always on."""
    goes_on_in_the_middle(tmp_path, schedule=schedule, optimiser=optimiser, decay_epochs=2, **ALL_AT_ONCE)


@pytest.mark.parametrize(
    "values",
    [{}, {"ema": 0.5}, {"accumulate": 2}, {"accumulate": 16}, {"mixup": 0.8}, {"cutmix": 1.0}, {"warmup": 0.9},
     {"augmentation": "crop", "color_jitter": 0.4}, {"clip_norm": None}, {"precision": "bfloat16"}],
    ids=str,
)  # fmt: skip
def test_each_part_alone_goes_on(tmp_path, values):
    goes_on_in_the_middle(tmp_path, **values)


def test_a_search_that_begins_at_random_and_a_map_term_of_every_second_step_go_on(tmp_path):
    recipe = Combined(Combined.Settings(eps=0.3, steps=2, random_start=True, ramp=0.5))
    images = Images(1, lacking=lambda number: number % 3 == 0)
    history = goes_on_in_the_middle(tmp_path, recipe=recipe, images=images, ema=0.9, mixup=0.8)
    assert {"map_term", "cross_entropy"} < set(history[0])


def test_every_part_of_every_step_draws_its_own_random_numbers(tmp_path):
    class Draws(Baseline):
        def __call__(self, model, batch, position):
            seeds.append(torch.initial_seed())
            return super().__call__(model, batch, position)

    seeds = []
    fit(tmp_path, Draws(Baseline.Settings()), accumulate=4, epochs=2).run([])
    assert len(set(seeds)) == len(seeds) == 4 * 2 * PER_EPOCH


def test_states_are_saved_after_every_so_many_minutes(tmp_path, monkeypatch):
    clock = iter(range(0, 100 * 40, 40))  # seconds: 40 pass with every look
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(loop, "Speed", Unhurried)
    saved = []
    trained = fit(tmp_path, epochs=2, save_minutes=1.5)
    monkeypatch.setattr(trained, "_save", lambda: (saved.append((len(trained.history), trained.done)), save())[1])
    save = type(trained)._save.__get__(trained)
    trained.run([])
    assert saved == [(0, 3), (1, 0), (1, 3), (2, 0)]  # 120 s after the beginning; after the epoch; and again


class Unhurried:
    """`Speed`, without a look at the clock."""

    def __init__(self, batch_size, device):
        self.batch_size = batch_size

    def begin(self):
        pass

    def watched(self, batches):
        return batches

    def report(self):
        return None


@pytest.fixture
def earlier():
    """A handler of SIGTERM that was there before."""

    def handler(number, frame):
        raise AssertionError("SIGTERM reached the earlier handler")

    before = signal.signal(signal.SIGTERM, handler)
    yield handler
    signal.signal(signal.SIGTERM, before)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [0, 5, 2 * PER_EPOCH - 1, STEPS - 1])
def test_sigterm_saves_the_state_and_the_same_command_goes_on(tmp_path, earlier, step):
    whole = fit(tmp_path / "whole", **ALL_AT_ONCE)
    whole.run([])
    cut, watcher = fit(tmp_path / "cut", **ALL_AT_ONCE), Watcher(step, act=terminate)
    with pytest.raises(Interrupted) as caught:
        cut.run([watcher])
    assert caught.value.exit_code == 143
    kept = f"the state is kept in {tmp_path / 'cut' / 'state.pt'}, and the same command resumes"
    assert str(caught.value) == f"SIGTERM after step {step + 1} of {STEPS}: {kept}"
    assert signal.getsignal(signal.SIGTERM) is earlier
    assert len(watcher.steps) == step + 1
    resumed, watcher = fit(tmp_path / "cut", weights=9, **ALL_AT_ONCE), Watcher()
    assert resumed.run([watcher]) == whole.history == watcher.rows
    assert_same(state(resumed), state(whole))
    assert [number for number, _ in watcher.steps] == list(range(step + 1, STEPS))  # no step is done twice
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_sigterm_while_an_epoch_ends_is_noted_and_after_the_last_one_too_late(tmp_path, earlier):
    with pytest.raises(Interrupted, match=f"SIGTERM after step {PER_EPOCH + 1} of"):
        fit(tmp_path / "cut").run([Watcher(stop_epoch=1, act=terminate)])
    assert len(fit(tmp_path / "last").run([Watcher(stop_epoch=4, act=terminate)])) == 4
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_the_earlier_handler_is_back_whatever_ends_the_training(tmp_path, earlier):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path).run([Watcher(2)])
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_a_training_in_a_thread_leaves_signals_alone(tmp_path, earlier):
    whole, threaded, seen = fit(tmp_path / "whole"), fit(tmp_path / "thread"), Watcher(
        look=lambda: signal.getsignal(signal.SIGTERM)
    )  # fmt: skip
    whole.run([])
    thread = threading.Thread(target=threaded.run, args=([seen],))
    thread.start()
    thread.join()
    assert threaded.history == whole.history
    assert_same(state(threaded), state(whole))
    assert set(seen.seen) == {earlier}


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


@pytest.mark.parametrize("value", [math.nan, None])
def test_it_says_which_state_is_the_last_good_one(tmp_path, value):
    where = tmp_path / "state.pt"
    with pytest.raises(AdvalignError, match=r"at step 2: lower train\.learning_rate; no state was saved yet$"):
        fit(tmp_path, Spoilt(1, value)).run([])
    assert not where.exists()
    with pytest.raises(AdvalignError, match=f"at step 6: .*; the last good state is {where}$"):
        fit(tmp_path, Spoilt(5, value)).run([])
    saved = torch.load(where, weights_only=True)
    assert (len(saved["history"]), saved["done"]) == (1, 0)


def test_a_state_of_another_training_is_not_the_last_good_one(tmp_path):
    fit(tmp_path, identity="b", epochs=1).run([])
    with pytest.raises(AdvalignError, match=r"no state was saved yet$"):
        fit(tmp_path, Spoilt(1, math.nan), identity="a").run([])


@pytest.mark.parametrize("value", [math.nan, None])
def test_weights_average_and_saved_state_stay_those_before_the_step_that_failed(tmp_path, value):
    values = {"ema": 0.9, "accumulate": 2, "save_minutes": MID}
    good, seen = fit(tmp_path / "good", Spoilt(99), **values), []
    good.run([Watcher(look=lambda: seen.append(state(good)))])
    bad = fit(tmp_path / "bad", Spoilt(6, value), **values)
    with pytest.raises(AdvalignError, match="at step 7: "):
        bad.run([])
    saved = torch.load(tmp_path / "bad" / "state.pt", weights_only=True)
    assert (len(saved["history"]), saved["done"]) == (1, 2)
    kept = {**saved["network"], **{f"average {name}": tensor for name, tensor in saved["average"].items()}}
    assert_same(kept, seen[5])
    weights = [name for name, _ in bad.classifier.network.named_parameters()]
    assert_same({name: state(bad)[name] for name in weights}, {name: seen[5][name] for name in weights})


def test_reports_say_how_fast_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", 0.0)
    trained, watcher = fit(tmp_path, epochs=2), Watcher()
    rates = []
    watcher.look = lambda: rates.append(trained.optimiser.param_groups[0]["lr"])
    history = trained.run([watcher])
    assert [row["step"] for row in watcher.reports] == list(range(1, 2 * PER_EPOCH + 1))
    assert [row["learning_rate"] for row in watcher.reports] == rates
    first = [row["running_loss"] for row in watcher.reports[:PER_EPOCH]]
    assert sum(first) / PER_EPOCH == pytest.approx(history[0]["loss"])
    for row in watcher.reports:
        assert set(row) == {
            "step", "running_loss", "learning_rate", "images_per_second", "waiting_for_data", "memory_mib",
        }  # fmt: skip
        assert row["images_per_second"] > 10
        assert 0 < row["waiting_for_data"] < 1
        assert 50 < row["memory_mib"] < 100_000


def test_rates_by_value(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(speed.time, "monotonic", lambda: clock[0])
    watched = speed.Speed(32, torch.device("cpu"))

    def slow():
        for _ in range(6):
            clock[0] += 3.0  # until the batch comes
            yield "batch"

    reports = []
    for _ in watched.watched(slow()):
        clock[0] += 1.0  # the step itself
        reports.append(watched.report())
    assert [report is None for report in reports] == [True, True, False, True, True, False]  # after 12 s and 24 s
    for report in (reports[2], reports[5]):
        assert report["images_per_second"] == pytest.approx(3 * 32 / 12)
        assert report["waiting_for_data"] == pytest.approx(9 / 12)


def test_rates_go_over_epochs_and_leave_out_what_lies_between(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(speed.time, "monotonic", lambda: clock[0])
    watched, reports = speed.Speed(8, torch.device("cpu")), []
    for _ in range(4):  # epochs of a step each
        clock[0] += 100.0  # validation
        watched.begin()
        clock[0] += 4.0
        reports.append(watched.report())
    assert [report is None for report in reports] == [True, True, False, True]
    assert reports[2]["images_per_second"] == pytest.approx(3 * 8 / 12)


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
    def epoch(number, shift=2):
        settings = SETTINGS.model_copy(update={"shift": shift})
        return list(TrainingData(Images(1), settings).epoch(4, number, Share()))

    batches = epoch(1)
    assert [len(batch) for batch in batches] == [BATCH] * PER_EPOCH
    assert all(torch.equal(batch.images[:, 0], batch.heatmaps) for batch in batches)  # the map is the first channel
    assert all(torch.equal(one.images, two.images) for one, two in zip(batches, epoch(1), strict=True))
    assert not torch.equal(batches[0].images, epoch(2)[0].images)
    plain = torch.cat([batch.images for batch in epoch(1, shift=0)])
    originals = Images(1).pixels.float() / 255
    same = (plain[:, None] == originals[None]).flatten(2).all(2)
    mirrored = (plain[:, None] == originals.flip(3)[None]).flatten(2).all(2)
    assert ((same | mirrored).sum(1) == 1).all()
    assert (same | mirrored).sum(0).max() == 1, "no image twice in an epoch"
    assert 0.3 < mirrored.any(1).float().mean() < 0.7
    assert torch.equal(torch.cat([batch.images for batch in data(1).all(Share())]), originals)


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
