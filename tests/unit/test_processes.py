"""Sockets of processes: a temporary folder that is too long for them."""

import multiprocessing
from dataclasses import replace

import pytest

from advalign.data.batches import Share
from advalign.errors import InputError
from advalign.files import Project
from advalign.processes import check_sockets
from advalign.settings import load_settings
from advalign.training.plan import plan
from advalign.workflows.tracked_training import train_tracked
from tests.tiny_training import data


def temporary(tmp_path, monkeypatch, length):
    folder = tmp_path / ("x" * (length - len(f"{tmp_path}/")))
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)


def test_the_longest_folder_that_is_accepted_serves(tmp_path, monkeypatch):
    temporary(tmp_path, monkeypatch, 75)
    check_sockets("")
    found = data()
    batches = replace(found, settings=found.settings.model_copy(update={"workers": 2})).epoch(0, 0, Share())
    assert next(batches).images.ndim == 4
    batches.close()


def test_a_training_that_would_wait_for_ever_is_refused(tmp_path, monkeypatch, project: Project):
    temporary(tmp_path, monkeypatch, 76)
    settings = load_settings(project.root)
    planned = plan(project, settings, settings.trainings["test_resnet.baseline"])
    planned = replace(planned, train=planned.train.model_copy(update={"workers": 2}))
    with pytest.raises(InputError, match=r"TMPDIR is too long for sockets \(at most 75 bytes\): .* train.workers to 0"):
        train_tracked(project, planned, tmp_path / "model")
