"""What `advalign doctor` says of data/, responses and human maps, without git and without DVC's cache."""

import shutil

import pytest

from advalign.files import Project
from advalign.inputs import folder_md5
from advalign.workflows.health import _data, _maps, _responses, _stimuli
from tests.tiny_responses import write_responses
from tests.unit.analysis.people_made_up import write_maps


@pytest.fixture
def project(sample_root, tmp_path):
    """A project that names its data, outside of git and of DVC."""
    project = Project(shutil.copytree(sample_root, tmp_path / "project"))
    md5 = folder_md5(project.data, None)
    (project.root / "data.dvc").write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: data\n")
    return project


def test_data_that_are_unchanged_are_so_without_git(project):
    found = _data(project)
    assert (found.state, found.detail) == ("ok", "as data.dvc says")


def test_data_that_are_changed_are_so(project):
    (project.data / "classes.yaml").write_text("changed\n")
    found = _data(project)
    assert (found.state, found.detail) == ("broken", "data/ is not what data.dvc says")


@pytest.mark.parametrize("text", ["outs: []\n", "not: [yaml\n", ""])
def test_a_pointer_that_names_no_version_is_what_is_broken(project, text):
    (project.root / "data.dvc").write_text(text)
    found = _data(project)
    assert (found.state, found.detail) == ("broken", "data.dvc does not say which version data/ is")


@pytest.mark.parametrize(
    ("text", "state", "detail"),
    [
        ("stages: {stimuli: {cmd: x}}\n", "absent", "not frozen yet"),
        ("stages: {train: {cmd: x}}\n", "ok", "none: no stage of this experiment makes them"),
        ("stages: [yaml\n", "broken", "is not valid YAML"),
    ],
)
def test_stimuli_are_missed_where_a_stage_makes_them(project, text, state, detail):
    (project.root / "dvc.yaml").write_text(text)
    found = _stimuli(project)
    assert found.state == state
    assert detail in found.detail


def test_responses_are_told_with_their_provenance_and_the_damaged_one_is_broken(project):
    assert vars(_responses(project)) == {"what": "responses", "state": "ok", "detail": "none", "mend": ""}
    path = write_responses(project, "brain", provenance="measured")
    made = project.root / "outputs" / "responses" / "made.h5"
    made.parent.mkdir(parents=True, exist_ok=True)
    write_responses(project, "made").rename(made)
    found = _responses(project)
    assert (found.state, found.detail) == ("ok", "brain (measured), made (simulated)")
    for broken in (made, path):
        content = bytearray(broken.read_bytes())
        content[-1] ^= 1
        broken.write_bytes(content)
        found = _responses(project)
        assert found.state == "broken" and found.detail.startswith(f"{broken} is damaged")


@pytest.mark.parametrize("name", ["agreement.parquet", "curve.json"])
def test_maps_are_missed_where_there_are_trials_and_damaged_ones_are_broken(project, name):
    found = _maps(project)
    assert (found.state, found.detail, found.mend) == ("absent", "not made yet", "dvc repro maps")
    write_maps(project)
    assert (_maps(project).state, _maps(project).detail) == ("ok", "outputs/maps")
    path = project.human_maps / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    found = _maps(project)
    assert (found.state, found.mend) == ("broken", "dvc repro -f maps") and found.detail.startswith(f"{path} is damag")
    path.unlink()
    assert _maps(project).detail.startswith(f"{path} is missing")
    shutil.rmtree(project.participants)
    assert (_maps(project).state, _maps(project).detail) == ("ok", "none: no trials in data/participants")
