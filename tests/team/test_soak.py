"""Eight processes register and promote at once: no version is lost, there is one champion, and the database is sound.

ADVALIGN_SOAK=60 makes it a minute per store (and test_publish.py publish 350 runs).
"""

import json
import os
import sqlite3
from collections import Counter

import psycopg
import pytest

from advalign.files import Project
from advalign.tracking import audit
from advalign.tracking.aliases import INTENT
from advalign.tracking.registered import WEIGHTS_TAG, find_model, versions_of
from advalign.tracking.store import open_store
from tests.team.processes import Process
from tests.team.soak import NAMES, register_and_promote

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]

PROCESSES = 8
SECONDS = float(os.environ.get("ADVALIGN_SOAK", "5"))


def soak(root, variables) -> list[dict[str, object]]:
    """Run the processes; what they report, in no particular order."""
    processes = [Process(root, variables, register_and_promote, root, number, SECONDS) for number in range(PROCESSES)]
    for process in processes:
        assert process.wait(SECONDS + 150) == 0, process.errors()
    reports = [json.loads(line) for path in root.glob("soak-*.jsonl") for line in path.read_text().splitlines()]
    assert len(reports) >= PROCESSES
    return reports


def assert_consistent(root, reports) -> None:
    store = open_store(Project(root))
    for name in NAMES:
        mine = [report for report in reports if report["name"] == name]
        versions = {int(version.version): version.tags[WEIGHTS_TAG] for version in versions_of(store, name)}
        assert versions == {report["version"]: report["weights"] for report in mine}  # none lost, none twice
        assert sorted(versions) == list(range(1, len(versions) + 1))

        promoted = [report["version"] for report in mine if report["outcome"] == "promoted"]
        model = find_model(store, name)
        assert int(model.aliases["champion"]) in promoted
        assert INTENT not in model.tags  # nothing half done
        rows = audit.rows(store, name)
        assert Counter(row["outcome"] for row in rows if row["outcome"] != "lost") == {"promoted": len(promoted)}
        assert sorted(row["version"] for row in rows if row["outcome"] == "promoted") == sorted(promoted)
        # The table reads as one history: each promotion found the one before it in place.
        done = [row for row in rows if row["outcome"] == "promoted"]
        assert {row["before"] for row in done} == {None, *promoted} - {int(model.aliases["champion"])}
        assert len({row["before"] for row in done}) == len(done)
        if len(done) > 1:
            last = next(row for row in done if row["version"] == int(model.aliases["champion"]))
            assert int(model.aliases["previous"]) == last["before"]


def test_on_sqlite(root, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert_consistent(root, soak(root, {"MLFLOW_TRACKING_URI": None}))
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("pragma foreign_key_check").fetchall() == []


def test_on_postgresql(root, member, server):
    assert_consistent(root, soak(root, member))
    with psycopg.connect(server.database) as database:
        query = "select name, count(*), max(version) from model_versions where name = any(%s) group by name"
        for _, count, last in database.execute(query, (list(NAMES),)).fetchall():
            assert count == last
