"""What `advalign doctor` says of data/, without git and without DVC's cache."""

import shutil

import pytest

from advalign.files import Project
from advalign.inputs import folder_md5
from advalign.workflows.health import _data, _stimuli


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
