"""The server is killed in the middle of a training: the training survives, and nothing is lost."""

import os
import signal
import time

import pandas as pd
import pytest

from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, HISTORY, read_card
from advalign.tracking import training_run
from advalign.tracking.registry.registered import find_version
from advalign.tracking.store import open_store
from tests.team.processes import Process, advalign, command_line

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]

DOWN = "does not answer: start it, or unset MLFLOW_TRACKING_URI to use the project's own mlflow.db"
GOES_ON = f"{DOWN}; the training continues, and its metrics are logged later"
KEPT = (
    "nothing is lost: the checkpoint is kept in outputs/runs/test_resnet.baseline, and `advalign publish` brings it to "
    "the store"
)


def runs_of(store, seed):
    return [run for run in store.all_runs("train") if run.data.params.get("seed") == str(seed)]


def kill_during(server, store, training: Process, seed: int) -> None:
    """SIGKILL the server once an epoch is logged, and wait until the training has noticed."""
    while not any("loss" in run.data.metrics for run in runs_of(store, seed)):
        assert training.process.is_alive(), training.errors()
        time.sleep(0.05)
    server.kill()
    while GOES_ON not in training.errors():
        assert training.process.is_alive(), training.errors()
        time.sleep(0.1)


def assert_nothing_is_lost(root, store, seed, epochs):
    """One finished run with every epoch of history.csv exactly once, and one version of the checkpoint's weights."""
    folder = root / "outputs" / "runs" / "test_resnet.baseline"
    history, card = pd.read_csv(folder / HISTORY), read_card(folder)
    assert len(history) == epochs
    (run,) = runs_of(store, seed)
    assert run.info.status == "FINISHED"
    for name in ("loss", "val_accuracy"):
        logged = store.client.get_metric_history(run.info.run_id, name)
        found = sorted((metric.step, metric.value) for metric in logged)
        assert found == list(zip(history["step"], history[name], strict=True)), name
    version = find_version(store, card.name, card.weights_sha256, sha256(folder / CARD))
    assert version is not None
    assert version.run_id == run.info.run_id


def impatient_command_line(*words: str) -> None:
    """The program, as it is after a longer wait for the server."""
    training_run.PATIENCE = 3.0
    command_line(*words)


def test_a_training_survives_a_killed_server(root, server, member, store):
    epochs, seed = 10, 101
    words = ("train", "baseline", "--epochs", str(epochs), "--seed", str(seed))
    quick = {**member, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
    training = advalign(root, quick, *words)
    kill_during(server, store, training, seed)
    assert training.process.is_alive()
    os.kill(training.process.pid, signal.SIGSTOP)  # or it may end before the server is back, on a busy machine
    server.start()
    os.kill(training.process.pid, signal.SIGCONT)
    assert training.wait() == 0, training.errors()
    assert "version" in training.printed()
    assert training.errors().count(GOES_ON) >= 1
    assert_nothing_is_lost(root, open_store(Project(root)), seed, epochs)


def test_what_a_dead_server_did_not_get_is_published_later(root, server, member, store):
    epochs, seed = 4, 102
    hasty = {**member, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    words = ("train", "baseline", "--epochs", str(epochs), "--seed", str(seed))
    training = Process(root, hasty, impatient_command_line, *words)
    kill_during(server, store, training, seed)
    assert training.wait() == 2, training.errors()
    assert training.printed() == ""
    last = training.errors().strip().splitlines()[-1]
    assert last.startswith("advalign: error: test_resnet.baseline: trained, val accuracy ")
    assert last.endswith(f"; tracking server {server.uri} {DOWN}; {KEPT}")
    assert "Traceback" not in training.errors()

    server.start()
    published = advalign(root, member, "publish")
    assert published.wait() == 0, published.errors()
    assert_nothing_is_lost(root, open_store(Project(root)), seed, epochs)
