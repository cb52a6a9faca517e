"""Opening a store."""

import os
import subprocess
import sys

import pytest

from advalign.files import Project
from advalign.tracking.store import open_store


def test_each_project_has_its_own_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert open_store(Project(tmp_path / name)).uri == f"sqlite:///{tmp_path / name / 'mlflow.db'}"
        assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)
    given = f"sqlite:///{tmp_path / 'given.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert open_store(Project(tmp_path / "first")).uri == given


@pytest.mark.slow
@pytest.mark.parametrize("module", ["advalign.tracking.store", "advalign.tracking.registry.promotion"])
def test_neither_a_store_nor_a_promotion_loads_a_plotting_library(module):
    code = f"import sys, {module}; print(sorted({{'matplotlib', 'plotly'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
