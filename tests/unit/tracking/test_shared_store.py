"""One store for several experiments: each finds its own runs, versions and evaluations."""

import shutil

import pytest
import yaml

from advalign.files import Project
from advalign.names import Reference
from advalign.settings import EvaluateSettings
from advalign.tracking.registry.evidence import read_evaluation
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import candidate, resolve
from advalign.tracking.store import EXPERIMENT, open_store
from advalign.workflows.publish import publish_all
from tests.registered import evaluate, make_project, save_version, zoo_beside

pytestmark = pytest.mark.slow

NAME = "test_resnet.baseline"


@pytest.fixture(scope="module")
def both(sample_root, tmp_path_factory):
    """The main experiment and a copy of it, each opened; both evaluated the main one's model, and one of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        main = make_project(sample_root, tmp_path_factory.mktemp("shared") / "project")
        main.gates.write_text(yaml.safe_dump({"champion": {"protocol": "fmn-fast", "pareto_front": False}}))
        own = main.root / "experiments" / "own"
        shutil.copytree(main.root, own, ignore=shutil.ignore_patterns("registry", "experiments", "mlflow.db"))
        opened = [(project, open_store(project)) for project in (main, Project(own))]
        save_version(main, "shared.baseline", 7)
        shutil.copytree(main.checkpoints / "shared.baseline", Project(own).checkpoints / "shared.baseline")
        for seed, (project, store) in enumerate(opened):
            save_version(project, NAME, seed)
            evaluate(project, NAME, pt=0.5 + seed, aa=0.3, accuracy=0.8)
            evaluate(project, "shared.baseline", pt=2.5 + seed, aa=0.3, accuracy=0.8)
            publish_all(project, store)
        yield opened


def tolerance(store, name, number):
    found = read_evaluation(store, resolve(store, Reference(name, version=number)), "fmn-fast", EvaluateSettings())
    return None if found is None else round(found.metrics["perturbation_tolerance"], 9)


def test_there_is_one_store_in_the_repositorys_root(both):
    (main, first), (own, second) = both
    assert first.uri == second.uri == f"sqlite:///{main.root / 'mlflow.db'}"
    assert (first.experiment, second.experiment) == ("main", "own")
    assert not (own.root / "mlflow.db").exists()


def test_a_version_keeps_the_evaluations_of_every_experiment_apart(both):
    (_, first), (_, second) = both
    assert [tolerance(first, NAME, number) for number in (1, 2)] == [0.5, None]
    assert [tolerance(second, NAME, number) for number in (1, 2)] == [None, 1.5]
    assert [tolerance(store, "shared.baseline", 1) for store in (first, second)] == [2.5, 3.5]
    tags = resolve(first, Reference("shared.baseline", version=1)).tags
    assert float(tags["fmn-fast.perturbation_tolerance"]) == pytest.approx(2.5)
    assert float(tags["own/fmn-fast.perturbation_tolerance"]) == 3.5
    assert tags[EXPERIMENT] == "main"  # the same weights are one version, of whoever published them first


def test_the_candidate_that_nobody_names_is_ones_own(both):
    (_, first), (_, second) = both
    assert resolve(first, Reference(NAME, alias="candidate")).version == 2
    assert [candidate(store, NAME).version for store in (first, second)] == [1, 2]
    assert [resolve(store, Reference(NAME)).version for store in (first, second)] == [1, 2]
    assert candidate(second, "shared.baseline").version == 1  # it has none of its own


def test_publishing_again_changes_nothing_and_old_runs_are_the_main_experiments(both):
    for project, store in both:
        assert publish_all(project, store).created == []
    (main, first), (own, second) = both
    for kind in ("train", "evaluate"):
        for run in first.find_runs(kind, {"advalign.model": NAME}):
            first.client.delete_tag(run.info.run_id, EXPERIMENT)  # as earlier versions wrote them
    first.client.delete_model_version_tag(NAME, "1", EXPERIMENT)
    assert publish_all(main, first).created == []
    assert publish_all(own, second).created == []
    assert candidate(first, NAME).version == 1


def test_a_promotion_is_judged_on_the_experiments_evaluations(both):
    (main, first), (own, second) = both
    refused = promote(own, second, NAME, 1)
    assert refused.outcome == "refused"
    assert "not evaluated under it" in [gate.got for gate in refused.gates]
    assert promote(own, second, NAME).version == 2
    assert promote(main, first, NAME).version == 1
    zoos = [zoo_beside(project, store, "shared.baseline", left_out="shared.baseline") for project, store in both]
    assert [zoo["pt"].round(9).tolist() for zoo in zoos] == [[0.5], [1.5]]
