"""Why there is no Ray cluster: each cause with its own remedy."""

import importlib

import pytest

from advalign.errors import InputError
from advalign.evaluation.engines.ray import _connect

ray = pytest.importorskip("ray")


def test_a_long_temporary_folder_is_the_cause_that_is_named(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = f"Ray cannot start: paths of its sockets below {folder} would be longer than 107 bytes: set RAY_TMPDIR"
    with pytest.raises(InputError, match=said):
        _connect(ray)


def test_a_cluster_that_is_started_here_is_not_one_that_is_looked_for(monkeypatch):
    def refuses(**_):
        raise RuntimeError("no room")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(InputError, match="Ray cannot start on this machine: no room; --engine local needs no Ray"):
        _connect(importlib.import_module("ray"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster at '127\.0\.0\.1:1': .*Connection refused; start one with"):
        _connect(ray)
