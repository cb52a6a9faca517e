"""An evaluation under a protocol of `smoothing`: rows, numbers, figure; and no l2 number beside a linf one."""

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.certified_figure import certified_accuracy_figure
from advalign.analysis.drawing import save
from advalign.analysis.interactive import interact
from advalign.data.results import read_summary
from advalign.errors import InputError
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.models.zoo import create_classifier
from advalign.probes.smoothing import Smoothing
from advalign.settings import ProtocolSettings, load_settings
from tests.conftest import edit_card, save_untrained, with_cifar, with_stimuli

pytestmark = pytest.mark.slow
PLAIN, NOISY = "test_resnet.baseline", "test_resnet_noise0.25"
VOTES = {
    name: ProtocolSettings(
        probe="smoothing", image_set=image_set, settings={"n0": 5, "n": 40, "radii": [0.1, 0.25], **settings}
    )
    for name, image_set, settings in (
        ("votes", "cifar", {}), ("votes-stimuli", "stimuli", {"sequential": True, "sigma": 0.5}),
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    """Stimuli, images of 32 pixels, and two untrained models; the card of one says that it was trained with noise."""
    project = with_cifar(with_stimuli(sample_root, tmp_path_factory.mktemp("votes") / "project"))
    for name in (PLAIN, NOISY):
        save_untrained(project, name, create_classifier("test_resnet", 36, 64, seed=0))
    edit_card(project.checkpoints / NOISY, recipe="noise")
    return project


def settings_of(project, **changes):
    settings = load_settings(project.root)
    changed = {"protocols": VOTES, "companions": (), "also": (), "shard_size": 2, "gallery": 0, **changes}
    return settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changed)})


def evaluate(project, protocol, workers=1, limit=None):
    evaluator = Evaluator(project, settings_of(project), protocol, limit)
    models = [TrainedModel(project.checkpoints / name) for name in (PLAIN, NOISY)]
    outcomes = Campaign(evaluator, models, local(workers)).run()
    assert {outcome.state for outcome in outcomes} == {"evaluated"}, outcomes
    return evaluator.paths(PLAIN)


def test_rows_numbers_and_the_curve(project, tmp_path):
    paths = evaluate(project, "votes")
    rows, summary = pd.read_parquet(paths.rows), read_summary(paths)
    assert (rows["samples"] == 45).all()
    assert rows["smoothed_decision"].between(-1, 35).all()
    expected = (rows["correct"] & (rows["certified_radius_l2"] >= 0.25)).mean()
    assert summary["metrics"]["certified_accuracy_eps0.25"] == expected
    assert not any("linf" in name for name in summary["metrics"])

    plot = certified_accuracy_figure(project, settings_of(project, protocol="votes"))
    assert [panel.x.title for panel in plot.panels] == ["certified radius under votes (l2 norm)"]
    lines = {line.name: line for line in plot.panels[0].marks}
    assert set(lines) == {PLAIN, NOISY}
    right = np.where(rows["correct"], rows["certified_radius_l2"], -1)
    np.testing.assert_allclose(lines[PLAIN].y, [(right >= radius).mean() for radius in lines[PLAIN].x])
    assert plot.notes == [f"Not trained with noise: {PLAIN}. Their certificates are valid, and smaller than could be."]
    save(plot, tmp_path / "certified.png")
    assert (tmp_path / "certified.png").stat().st_size > 10_000
    assert interact(plot)


def test_decisions_of_groups_and_the_rows_of_two_workers(project):
    one = pd.read_parquet(evaluate(project, "votes-stimuli", limit=5).rows)
    assert set(one["smoothed_decision"]) <= {-1, 0, 1}
    assert (one["samples"] >= 5 + 4).all()
    two = pd.read_parquet(evaluate(project, "votes-stimuli", workers=2, limit=4).rows)
    pd.testing.assert_frame_equal(two, one.iloc[:4], check_exact=True)


def test_a_companion_in_another_norm_is_refused(project):
    """Its numbers would be in the summary of the other protocol."""
    for protocol, companions in (("linf-curve", ("votes",)), ("votes", ("predictions", "pgd-20-linf8"))):
        with pytest.raises(InputError, match=r"evaluate\.also") as error:
            Evaluator(project, settings_of(project, companions=companions), protocol)
        assert "\n" not in str(error.value)
    Evaluator(project, settings_of(project, companions=("votes", "predictions")), "fmn-fast")
    assert Smoothing().measured_norm == "l2"


def test_without_certificates_there_is_no_curve(project):
    plot = certified_accuracy_figure(project, settings_of(project, protocol="predictions"))
    assert not plot.panels
    assert "probe smoothing" in plot.detail
