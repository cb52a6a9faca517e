"""A training's run: its curves and pictures while it goes on, how it ended, and that a resumed one continues it."""

import errno
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from advalign.errors import AdvalignError, DataError
from advalign.files import Project
from advalign.models.checkpoints import CARD, HISTORY, WEIGHTS, Card, ClassCard
from advalign.models.classifier import Preprocessing
from advalign.recipes.base import Position
from advalign.settings import Training, load_settings
from advalign.tracking import training_run
from advalign.tracking.lineage import IDENTITY
from advalign.tracking.store import StoreDown, open_store
from advalign.tracking.training_run import ENDED, TrainingRun, checkpoint_run
from advalign.training import loop, speed
from advalign.training.interruption import Interrupted
from advalign.training.pictures import Pictures
from advalign.training.plan import plan
from advalign.workflows.tracked_training import train_tracked


@pytest.fixture(scope="module")
def tracked(sample_root, tmp_path_factory):
    """The tiny project's data with a store of its own: (project, store)."""
    root = tmp_path_factory.mktemp("tracked")
    params = yaml.safe_load((sample_root / "params.yaml").read_text())
    params["train"] |= {"size": 32, "batch_size": 32, "epochs": 3, "threads": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "data").symlink_to(sample_root / "data")
    given = os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield Project(root), open_store(Project(root))
    if given is not None:
        os.environ["MLFLOW_TRACKING_URI"] = given


@pytest.fixture
def begin(tracked, request):
    """Begin, or continue, the run of this test's own training."""
    project, store = tracked
    name = request.node.name

    def make(identity="1", **tags):
        return TrainingRun(store, project, "test_resnet.baseline", f"{name} {identity}", {"seed": "0"}, tags)

    return make


def logged(store, run_id, metric):
    return [(one.step, one.value) for one in store.client.get_metric_history(run_id, metric)]


def report(step, **values):
    return {"step": step, "running_loss": 1.0 / step, "images_per_second": 10.0 * step, **values}


def epoch_row(epoch, **values):
    return {"epoch": epoch, "step": 10 * epoch, "loss": 1.0 / epoch, "val_accuracy": 0.5, **values}


def test_reports_are_logged_at_their_steps_beside_what_the_machine_does(tracked, begin):
    _, store = tracked
    run = begin()
    run.on_step(Position(0, 100))
    for step in (4, 9):
        run.on_report(report(step, waiting_for_data=0.25))
    assert logged(store, run.run_id, "running_loss") == [(4, 1 / 4), (9, 1 / 9)]
    assert logged(store, run.run_id, "images_per_second") == [(4, 40.0), (9, 90.0)]
    assert logged(store, run.run_id, "waiting_for_data") == [(4, 0.25), (9, 0.25)]
    metrics = store.client.get_run(run.run_id).data.metrics
    assert "step" not in metrics
    system = {name for name in metrics if name.startswith("system/")}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} <= system
    for name in system:
        assert [step for step, _ in logged(store, run.run_id, name)] == [4, 9]
    assert 0 < metrics["system/system_memory_usage_percentage"] < 100


def test_nothing_is_logged_twice_by_a_resumed_training(tracked, begin):
    """It goes on from an earlier step than the last one that was logged, and tells epochs that it restored."""
    _, store = tracked
    first = begin()
    first.on_report(report(4))
    first.on_epoch(epoch_row(1))
    first.on_report(report(13))
    again = begin()
    assert again.run_id == first.run_id
    again.on_epoch(epoch_row(1, loss=99.0))
    for step in (4, 12, 13):
        again.on_report(report(step, running_loss=99.0))
    again.on_report(report(14))
    again.on_epoch(epoch_row(2))
    assert logged(store, again.run_id, "loss") == [(10, 1.0), (20, 0.5)]
    assert logged(store, again.run_id, "running_loss") == [(4, 1 / 4), (13, 1 / 13), (14, 1 / 14)]
    assert [step for step, _ in logged(store, again.run_id, "system/cpu_utilization_percentage")] == [4, 13, 14]
    assert begin("2").run_id != first.run_id


def test_pictures_are_kept_in_the_run(tracked, begin):
    _, store = tracked
    run, rng = begin(), np.random.default_rng(0)

    def pixels(*shape):
        return rng.uniform(size=shape).astype(np.float32)

    run.on_pictures(2, Pictures(pixels(3, 3, 16, 16), pixels(3, 16, 16), pixels(3, 16, 16), [0, 4, 2]))
    run.on_pictures(4, Pictures(pixels(1, 3, 16, 16), np.zeros((1, 16, 16), np.float32), pixels(1, 16, 16), [1]))
    kept = [file.path for file in store.client.list_artifacts(run.run_id, "saliency")]
    assert kept == ["saliency/epoch_0002.png", "saliency/epoch_0004.png"]
    for path in kept:
        picture = Image.open(store.client.download_artifacts(run.run_id, path))
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 10
    assert store.client.get_run(run.run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("why", "status"),
    [
        (AdvalignError("the loss became nan at step 7: lower train.learning_rate; no state was saved yet"), "FAILED"),
        (Interrupted("SIGTERM after step 7 of 9: the state is kept in state.pt"), "KILLED"),
    ],
)
def test_a_training_that_was_cut_off_says_why_and_a_resumed_one_continues_it(tracked, begin, why, status):
    _, store = tracked
    first = begin()
    first.on_epoch(epoch_row(1))
    first.cut_off(why)
    found = store.client.get_run(first.run_id)
    assert (found.info.status, found.data.tags[ENDED]) == (status, str(why))
    assert ENDED == "advalign.ended"
    assert found.info.end_time is not None
    again = begin()
    found = store.client.get_run(first.run_id)
    assert again.run_id == first.run_id
    assert found.info.status == "RUNNING"
    assert ENDED not in found.data.tags
    again.on_epoch(epoch_row(2))
    assert logged(store, again.run_id, "loss") == [(10, 1.0), (20, 0.5)]


def test_a_finished_run_is_not_continued(tracked, begin, tmp_path):
    _, store = tracked
    first = begin()
    first.on_epoch(epoch_row(1))
    (tmp_path / HISTORY).write_text("epoch,loss\n1,1.0\n")
    first.finish(tmp_path)
    assert store.client.get_run(first.run_id).info.status == "FINISHED"
    assert [file.path for file in store.client.list_artifacts(first.run_id)] == [HISTORY]
    assert begin().run_id != first.run_id


def test_what_could_not_be_logged_is_logged_when_the_training_is_cut_off(tracked, begin, monkeypatch, capsys):
    _, store = tracked
    run = begin()
    client = run.client

    class Down:
        def __getattr__(self, name):
            raise StoreDown("the store does not answer")

    monkeypatch.setattr(run, "client", Down())
    run.on_epoch(epoch_row(1))
    run.on_report(report(13))
    run.on_pictures(2, Pictures(*(np.zeros((1, *s), np.float32) for s in ((3, 8, 8), (8, 8), (8, 8))), [0]))
    run.cut_off(AdvalignError("why"))
    assert capsys.readouterr().err == (
        "advalign: the store does not answer; the training continues, and its metrics are logged later\n"
    )
    monkeypatch.setattr(run, "client", client)
    run.cut_off(AdvalignError("why"))
    assert logged(store, run.run_id, "loss") == [(10, 1.0)]
    assert logged(store, run.run_id, "running_loss") == [(13, 1 / 13)]
    assert store.client.get_run(run.run_id).data.tags[ENDED] == "why"


@pytest.fixture
def trains(tracked, monkeypatch):
    """Train the tiny project's baseline with a seed; a report after every step, and something at a given one."""
    project, store = tracked
    monkeypatch.setattr(speed, "SECONDS", 0.0)

    def train(seed, at=None, act=None, name="cut", **values):
        step = loop.Fit._step

        def watched(fit, batches, position):
            if position.step == at:
                act(fit)
            return step(fit, batches, position)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Fit, "_step", watched)
            training = Training(model="test_resnet", recipe="baseline", train=values)
            planned = plan(project, load_settings(project.root), training, seed)
            folder = project.runs / f"{name} {seed}"
            return folder, train_tracked(project, planned, folder, device="cpu")

    def runs(seed):
        return [run for run in store.all_runs("train") if run.data.params.get("seed") == str(seed)]

    return train, runs


def curves(store, run):
    names = ("loss", "val_accuracy", "running_loss")
    return {name: logged(store, run.info.run_id, name) for name in names}


@pytest.mark.slow
def test_a_killed_and_a_whole_training_leave_the_same_run(tracked, trains):
    project, store = tracked
    train, runs = trains
    with pytest.raises(Interrupted, match="SIGTERM after step 3 of") as caught:
        train(5, 2, lambda fit: os.kill(os.getpid(), signal.SIGTERM))
    (cut,) = runs(5)
    assert (cut.info.status, cut.data.tags[ENDED]) == ("KILLED", str(caught.value))
    assert cut.data.params["train.epochs"] == "3"
    folder, tracked_training = train(5)
    assert tracked_training.trained
    assert not tracked_training.outage
    (run,) = runs(5)
    assert run.info.run_id == cut.info.run_id
    assert run.info.status == "FINISHED"
    assert ENDED not in run.data.tags
    history = pd.read_csv(folder / HISTORY)
    steps = int(history["step"].iloc[-1])
    found = curves(store, run)
    for name in ("loss", "val_accuracy"):
        assert found[name] == list(zip(history["step"], history[name], strict=True))
    assert [step for step, _ in found["running_loss"]] == list(range(1, steps + 1))
    pictures = [file.path for file in store.client.list_artifacts(run.info.run_id, "saliency")]
    assert pictures == ["saliency/epoch_0002.png"]
    assert not list(project.resume.glob("*.pt"))

    whole, _ = train(5, name="whole")  # a finished run is not continued
    assert len(runs(5)) == 2
    (undisturbed,) = (one for one in runs(5) if one.info.run_id != run.info.run_id)
    assert curves(store, undisturbed) == found
    assert (whole / HISTORY).read_bytes() == (folder / HISTORY).read_bytes()
    assert (whole / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_a_training_that_diverged_is_marked_and_goes_on_in_the_same_run(tracked, trains):
    train, runs = trains

    def spoil(fit):
        recipe = fit.recipe
        fit.recipe = lambda *given: {name: value * float("nan") for name, value in recipe(*given).items()}

    with pytest.raises(AdvalignError, match="the loss became nan at step 4: ") as caught:
        train(8, 3, spoil, save_minutes=1e-9)
    (failed,) = runs(8)
    assert (failed.info.status, failed.data.tags[ENDED]) == ("FAILED", str(caught.value))
    assert "the last good state is " in str(caught.value)
    folder, _ = train(8)
    (run,) = runs(8)
    assert (run.info.run_id, run.info.status) == (failed.info.run_id, "FINISHED")
    assert ENDED not in run.data.tags
    assert run.data.metrics["loss"] == pd.read_csv(folder / HISTORY)["loss"].iloc[-1]


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "mlartifacts/1")


@pytest.mark.slow
def test_a_full_artifact_store_does_not_end_a_training(tracked, monkeypatch):
    """Pictures are left out; card and history wait for `advalign publish`; the curves are all there."""
    project, store = tracked
    settings = load_settings(project.root)
    planned = plan(project, settings, Training(model="test_resnet", recipe="baseline"), seed=11)
    folder = project.runs / "full"
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "PATIENCE", 0.0)
        patch.setattr(type(store.client), "log_artifact", full)
        patch.setattr(type(store.client), "log_artifacts", full)
        done = train_tracked(project, planned, folder, device="cpu")
    assert done.trained
    assert re.fullmatch(r"tracking store sqlite:.* cannot be used: .*No space left on device.*", done.outage)
    assert (folder / WEIGHTS).is_file()
    (run,) = store.find_runs("train", {IDENTITY: planned.identity}, finished=False)
    assert len(logged(store, run.info.run_id, "loss")) == settings.train.epochs
    run_id, made = checkpoint_run(project, store, done.card, folder)
    assert (run_id, made) == (run.info.run_id, True)
    assert {one.path for one in store.client.list_artifacts(run_id)} == {CARD, HISTORY}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch,step,loss\n1,10,0.5\n2,20\n", "line 3: 2 cells, the header has 3"),
        ("epoch,step,loss\n1,10,high\n", "'high' is no finite number"),
        ("epoch,step,loss\n1,10,inf\n", "'inf' is no finite number"),
        ("epoch,loss\n1,0.5\n", "it has no column step"),
        ("epoch,step,loss\n1,1\0,0.5\n", "line 2: a NUL character"),
        ("", "not a learning curve (it has no column step)"),
    ],
)
def test_a_damaged_learning_curve_is_one_line_and_makes_no_run(tracked, tmp_path, text, told):
    project, store = tracked
    card = train_card("damaged")
    (tmp_path / HISTORY).write_text(text)
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        checkpoint_run(project, store, card, tmp_path)
    assert "\n" not in str(caught.value)
    assert store.find_runs("train", {IDENTITY: card.inputs_sha256}) == []


def train_card(name):
    return Card(
        name=name,
        architecture="test_resnet",
        arguments={},
        preprocessing=Preprocessing(input_size=32, mean=(0, 0, 0), std=(1, 1, 1)),
        classes=(ClassCard(wnid="n1", name="a", decision=0),),
        decisions=("a",),
        recipe="baseline",
        settings={},
        seed=0,
        inputs_sha256=f"of {name}",
        data_md5=None,
        weights_sha256="0",
        metrics={},
    )
