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
from advalign.tracking.registry import audit
from advalign.tracking.registry.aliases import INTENT
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import WEIGHTS_TAG, find_model, versions_of
from advalign.tracking.store import open_store
from tests.team.processes import Process
from tests.team.soak import NAMES, register_and_promote

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]

PROCESSES = 8
SECONDS = float(os.environ.get("ADVALIGN_SOAK", "5"))
MACHINES = ("soak_of_machines",)  # one model, so that they meet


def work(root, number, seconds, names, alone):
    """What a process runs."""
    register_and_promote(root, number, seconds, names, alone=alone)


def soak(root, variables, names=NAMES, alone=False) -> list[dict[str, object]]:
    """Run the processes; what they report, in no particular order."""
    arguments = [(root, number, SECONDS, names, alone) for number in range(PROCESSES)]
    processes = [Process(root, variables, work, *one) for one in arguments]
    for process in processes:
        assert process.wait() == 0, process.errors()
    reports = [json.loads(line) for path in root.glob("soak-*.jsonl") for line in path.read_text().splitlines()]
    assert len(reports) >= PROCESSES
    return reports


def promoted_of(store, name, reports) -> list[int]:
    """The versions of a model that were told to be promoted, which are those on record; one of them is champion."""
    mine = [report for report in reports if report["name"] == name]
    versions = {int(version.version): version.tags[WEIGHTS_TAG] for version in versions_of(store, name)}
    assert versions == {report["version"]: report["weights"] for report in mine}  # none lost, none twice
    assert sorted(versions) == list(range(1, len(versions) + 1))

    assert {report["outcome"] for report in mine} <= {"promoted", "lost"}
    promoted = [report["version"] for report in mine if report["outcome"] == "promoted"]
    assert int(find_model(store, name).aliases["champion"]) in promoted
    done = [row["version"] for row in audit.rows(store, name) if row["outcome"] == "promoted"]
    assert sorted(done) == sorted(promoted)
    return promoted


def assert_one_history(root, reports) -> None:
    """Under one lock the table reads as one history: each promotion found the one before it in place."""
    store = open_store(Project(root))
    for name in NAMES:
        promoted, model = promoted_of(store, name, reports), find_model(store, name)
        assert INTENT not in model.tags  # nothing half done
        done = audit.rows(store, name)
        assert {row["outcome"] for row in done} == {"promoted"}
        assert {row["before"] for row in done} == {None, *promoted} - {int(model.aliases["champion"])}
        assert len({row["before"] for row in done}) == len(done)
        if len(done) > 1:
            last = next(row for row in done if row["version"] == int(model.aliases["champion"]))
            assert int(model.aliases["previous"]) == last["before"]
    assert not [report for report in reports if report["lost"]]


def test_on_sqlite(root, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert_one_history(root, soak(root, {"MLFLOW_TRACKING_URI": None}))
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("pragma foreign_key_check").fetchall() == []


def test_on_postgresql(root, member, server):
    assert_one_history(root, soak(root, member))
    with psycopg.connect(server.database) as database:
        query = "select name, count(*), max(version) from model_versions where name = any(%s) group by name"
        for _, count, last in database.execute(query, (list(NAMES),)).fetchall():
            assert count == last


def test_on_machines_of_their_own(root, member):
    """Nobody shares a lock: two at once are noticed through the server alone, and nobody is told what is not so."""
    reports = soak(root, member, MACHINES, alone=True)
    store, (name,) = open_store(Project(root)), MACHINES
    promoted, aliases = promoted_of(store, name, reports), find_model(store, name).aliases
    rows = audit.rows(store, name)
    champions = {*promoted, *(row["before"] for row in rows if row["outcome"] == "promoted")}
    assert int(aliases.get("previous", promoted[0])) in champions
    assert aliases.get("previous") != aliases["champion"]

    last = next(number for number in range(1, len(reports) + 1) if number != int(aliases["champion"]))
    done = promote(Project(root), store, name, last, force=True, reason="one more")
    assert (done.outcome, done.before) == ("promoted", int(aliases["champion"]))
    model, rows = find_model(store, name), audit.rows(store, name)
    assert {alias: int(number) for alias, number in model.aliases.items() if alias != "candidate"} == {
        "champion": last,
        "previous": done.before,
    }
    assert INTENT not in model.tags
    found = Counter(row["outcome"] for row in rows)
    assert found["promoted"] == len(promoted) + 1
    assert set(found) <= {"promoted", "lost", "cut off"}  # nothing is under way any more
