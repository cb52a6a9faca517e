"""A copy of a run that is cut off at any moment is there once in the end, as its run is."""

import pytest
from mlflow.entities import Metric

from advalign.files import Project
from advalign.tracking.database import DATABASE
from advalign.tracking.lineage import COPIED
from advalign.tracking.run_copies import bring
from advalign.tracking.store import COPY, open_store
from tests.registered import empty_store

pytestmark = pytest.mark.slow


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Two stores of their own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / DATABASE).write_bytes(empty_store())
    return [open_store(Project(tmp_path / name)) for name in ("source", "target")]


@pytest.mark.parametrize("step", ["log_batch", "set_tag", "set_terminated"])
def test_a_copy_that_is_cut_off_is_there_once(stores, monkeypatch, step):
    source, target = stores
    made = source.client.create_run(source.experiment_ids["validate"], 1000, {"git.commit": "1a"}, "data").info.run_id
    source.client.log_batch(made, [Metric("failed", 1.0, 1500, 0), Metric("failed", 2.0, 1600, 1)])
    source.client.set_terminated(made, "FAILED", 2000)
    (run,) = source.all_runs("validate")

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target.client, step, dies)
        with pytest.raises(KeyboardInterrupt):
            bring(source, target, "validate", run, {})
    whole = step == "set_terminated"  # all but the end is there
    copy, new = bring(source, target, "validate", run, {"git.commit": "2b"})
    assert new is not whole
    assert bring(source, target, "validate", run, {}) == (copy, False)

    (found,) = target.all_runs("validate")
    assert (found.info.run_id, found.info.run_name, found.info.status) == (copy, "data", "FAILED")
    assert (found.info.start_time, found.info.end_time) == (1000, 2000)
    assert found.data.tags[COPIED] == found.data.tags[COPY] == made
    assert found.data.tags["git.commit"] == ("1a" if whole else "2b")
    curve = target.client.get_metric_history(copy, "failed")
    assert [(one.value, one.timestamp, one.step) for one in curve] == [(1.0, 1500, 0), (2.0, 1600, 1)]
