"""Several processes that open a store which does not exist yet: one creates it, all use it."""

import sqlite3

import pytest

from tests.pipeline.conftest import OURS, REPOSITORY, STORES
from tests.team.processes import advalign

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]


def test_a_new_store_is_created_once(tmp_path):
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    variables = {**dict.fromkeys(STORES), **OURS}
    processes = [advalign(tmp_path, variables, "registry", "list", "--json") for _ in range(4)]
    for process in processes:
        assert process.wait() == 0, process.errors()
        assert process.printed().strip() == "[]"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = [name for (name,) in database.execute("select name from experiments order by experiment_id")]
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    kinds = ("maps", "train", "evaluate", "compare", "guidance", "validate", "promote")
    assert names == ["Default", *(f"advalign/{kind}" for kind in kinds)]
