"""Carrying over to another store: references become the target's, texts stay the source's."""

import json
import shutil

import pytest

from advalign.tracking.lineage import COPIED
from advalign.tracking.registry import audit
from advalign.tracking.registry.promotion import promote, rollback
from advalign.tracking.registry.registered import WEIGHTS_TAG, find_model, versions_of
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.tracking.transfer import carry_over, local_store
from advalign.workflows.publish import publish_checkpoint
from tests.registered import make_project, save_version

pytestmark = pytest.mark.slow

NAME = "test_resnet.baseline"


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    return make_project(sample_root, tmp_path_factory.mktemp("carry") / "project")


def make_version(project, store, seed):
    return publish_checkpoint(project, store, save_version(project, NAME, seed), Published())


def remove_files(store, version):
    """Lose a version's files, as somebody who tidies up does."""
    model = store.client.get_logged_model(version.source.removeprefix("models:/"))
    shutil.rmtree(model.artifact_location.removeprefix("file://"))


def weights_by_number(store) -> dict[int, str]:
    return {int(version.version): version.tags[WEIGHTS_TAG] for version in versions_of(store, NAME)}


def test_references_are_the_targets_and_texts_are_the_sources(project, tmp_path, monkeypatch):
    """Versions 2 and 3 are 3 and 4 of the team, whose 1 and 2 are of other weights; the source's 1 is lost."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    local = open_store(project)
    for number in (1, 2, 3):
        make_version(project, local, number)
        promote(project, local, NAME, number, force=True, reason="as told")
    rollback(project, local, NAME, reason="back")
    remove_files(local, versions_of(local, NAME)[-1])
    source = weights_by_number(local)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'team.db'}")
    store = open_store(project)
    for number in (8, 9):
        theirs = make_version(project, store, number)
    store.client.delete_registered_model_alias(NAME, "candidate")

    left_out = carry_over(project, local_store(project, store), store, Published(), lambda *_: None)
    assert [line.partition(": ")[0] for line in left_out] == [f"{NAME} version 1 cannot be loaded"]
    target = weights_by_number(store)
    assert (target[3], target[4]) == (source[2], source[3])
    assert target[2] == theirs.tags[WEIGHTS_TAG]
    aliases = {alias: int(number) for alias, number in find_model(store, NAME).aliases.items()}
    assert aliases == {"champion": 3, "candidate": 4}

    expected = [("promoted", None, None), ("promoted", 3, None), ("promoted", 4, 3), ("rolled back", 3, 4)]
    rows = audit.rows(store, NAME)
    assert [(row["outcome"], row["version"], row["before"]) for row in rows] == expected
    runs = [store.client.get_run(row["run_id"]) for row in rows]
    assert [run.data.tags["advalign.version"] for run in runs] == ["", "3", "4", "3"]
    assert [run.data.tags["advalign.before"] for run in runs] == ["", "", "3", "4"]
    original = local_store(project, store)
    originals = audit.rows(original, NAME)
    assert [row["copied_from"] for row in rows] == [row["run_id"] for row in originals]
    names = [f"{NAME} version {row['version']}: {row['outcome']}" for row in originals]
    assert [run.info.run_name for run in runs] == names
    for row, there in zip(originals, rows, strict=True):
        assert audit.read(original, row["run_id"]) == audit.read(store, there["run_id"])

    held = {(3, "champion.decision"): 2, (4, "champion.decision"): 3, (3, "champion.rollback"): 2}
    versions = {number: store.client.get_model_version(NAME, str(number)) for number in (3, 4)}
    told = {(number, tag) for number, one in versions.items() for tag in one.tags if tag.startswith("champion")}
    assert told == set(held)
    for (number, tag), before in held.items():
        origin = f"version {before} of {original.uri}"
        found = json.loads(versions[number].tags[tag])
        assert found == {**json.loads(original.client.get_model_version(NAME, str(before)).tags[tag]), COPIED: origin}
        assert f"Copied: it speaks of {origin}, and" in versions[number].description
    assert [(row["version"], row["before"]) for row in originals] == [
        (1, None),
        (2, 1),
        (3, 2),
        (2, 3),
    ]
