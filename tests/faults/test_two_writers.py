"""Several processes that open a store which does not exist yet: one creates it, all use it."""

import sqlite3
import subprocess
import sys

import pytest

from tests.pipeline.conftest import REPOSITORY, environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]


def test_a_new_store_is_created_once(tmp_path):
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    command = [sys.executable, "-m", "advalign.cli.main", "registry", "list", "--json"]
    where = {**environment(), "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
        assert printed.strip() == "[]"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = [name for (name,) in database.execute("select name from experiments order by experiment_id")]
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    kinds = ("train", "evaluate", "compare", "validate", "promote")
    assert names == ["Default", *(f"advalign/{kind}" for kind in kinds)]
