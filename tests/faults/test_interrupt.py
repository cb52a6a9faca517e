"""Ctrl-C and SIGTERM: a command says how to go on, leaves nobody behind, and going on loses nothing."""

import os
import shutil
import signal
import time
from hashlib import sha256

import pytest

from advalign.files import Project
from advalign.models.checkpoints import WEIGHTS
from advalign.models.zoo import create_classifier
from tests.conftest import save_untrained, with_stimuli
from tests.team.processes import Spoken

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

NAME, GOES_ON = "test_resnet.baseline", "advalign: error: interrupted; run the same command again to continue"
TRAIN = ("train", "baseline", "--epochs", "3", "--set", "save_minutes=0.00001", "--set", "threads=1")
EVALUATE = ("evaluate", "test_resnet.own", "--protocol", "fmn-50", "--workers")


@pytest.fixture(scope="module")
def start(sample_root, tmp_path_factory):
    """The tiny project, with a model that can be evaluated."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("start") / "project")
    save_untrained(project, "test_resnet.own", create_classifier("test_resnet", 36, 64, seed=1))
    return project.root


def interrupted(root, words, begun, send=lambda process: os.killpg(process, signal.SIGINT)):
    """Run a command, and press Ctrl-C when something lies on the disk; how it ends."""
    command = Spoken(root, words, os.setsid)  # what a terminal does for a command: a process group of its own
    while not any(root.glob(begun)):
        assert command.process.exitcode is None, command.end()
        time.sleep(0.01)
    send(command.process.pid)
    ended = command.told()  # the resource tracker, which would warn, has the same standard error
    with pytest.raises(ProcessLookupError):
        while True:  # nobody of its group is left soon
            os.killpg(command.process.pid, 0)
            time.sleep(0.05)
    return ended


def test_a_training_goes_on_where_it_was(start, tmp_path):
    whole, cut = (Project(shutil.copytree(start, tmp_path / name)) for name in ("whole", "cut"))
    assert Spoken(whole.root, TRAIN).end()[0] == 0
    assert interrupted(cut.root, TRAIN, f"outputs/resume/{NAME}.*.pt") == (130, [GOES_ON])
    assert not (cut.runs / NAME / WEIGHTS).exists()
    assert Spoken(cut.root, TRAIN).end()[0] == 0
    first, second = (sha256((project.runs / NAME / WEIGHTS).read_bytes()).hexdigest() for project in (whole, cut))
    assert first == second


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_evaluation_goes_on_where_it_was(start, tmp_path, workers):
    root = shutil.copytree(start, tmp_path / "project")
    words = (*EVALUATE, workers)
    assert interrupted(root, words, "outputs/evaluations/fmn-50/shards/*/*.parquet") == (130, [GOES_ON])
    assert not list(root.glob("outputs/evaluations/fmn-50/*.json"))
    assert Spoken(root, words).end()[0] == 0
    assert list(root.glob("outputs/evaluations/fmn-50/*.json"))


@pytest.mark.timeout(200, func_only=True)
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("to", [os.kill, os.killpg])
def test_sigterm_ends_an_evaluation_and_its_workers(start, tmp_path, workers, to):
    root = shutil.copytree(start, tmp_path / "project")
    shards, said = "outputs/evaluations/fmn-50/shards/*/*.parquet", GOES_ON.replace("interrupted", "ended by SIGTERM")
    ended = interrupted(root, (*EVALUATE, workers), shards, lambda process: to(process, signal.SIGTERM))
    assert ended == (143, [said])
