"""The catalog (a file is an entry), the project's folders, files that are whole or untouched, and code digests."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import advalign
from advalign import catalog, errors, provenance
from advalign.errors import DataError, InputError, unknown_name
from advalign.files import Project, replacing, sha256, write_text

PACKAGE = Path(advalign.__file__).parent


@pytest.mark.parametrize("kind", ["attack", "metric", "recipe"])
def test_catalog_lists_the_files_of_the_folder_and_loads_each(kind):
    files = [path.name for path in (PACKAGE / f"{kind}s").iterdir() if path.suffix == ".py"]
    expected = sorted(f[:-3].replace("_", "-") for f in files if f != "base.py" and not f.startswith("_"))
    assert catalog.names(kind) == expected
    assert len(expected) >= 2
    for name in expected:
        entry = catalog.load(kind, name)
        assert entry.__module__ == f"advalign.{kind}s.{name.replace('-', '_')}"
        assert kind.capitalize() in [base.__name__ for base in entry.__mro__]


def test_listing_imports_neither_entries_nor_torch():
    code = "import sys; from advalign import catalog; catalog.names('attack'); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | _on_path()
    )
    assert done.stdout.strip() == "False"


def _on_path():
    return {"PYTHONPATH": str(PACKAGE.parent)}


@pytest.mark.parametrize(
    ("kind", "wrong", "near"),
    [
        ("recipe", "harmonised", "harmonized"),
        ("attack", "feng2025_released", "feng2025-released"),
        ("metric", "perturbation-tolerence", "perturbation-tolerance"),
    ],
)
def test_unknown_entries_offer_the_nearest(kind, wrong, near):
    with pytest.raises(InputError, match=f"^unknown {kind} '{wrong}'.* did you mean '{near}'") as caught:
        catalog.load(kind, wrong)
    assert ", ".join(catalog.names(kind)) in str(caught.value)


@pytest.mark.parametrize("hidden", ["base", "-map-term", "__init__", "../errors"])
def test_helper_files_are_no_entries(hidden):
    assert hidden not in catalog.names("recipe")
    with pytest.raises(InputError, match="unknown recipe"):
        catalog.load("recipe", hidden)


def test_unknown_name_lists_what_is_known_where_nothing_is_near():
    assert str(unknown_name("model", "qqq", ["b", "a"])).endswith("(known: a, b)")
    assert str(unknown_name("model", "qqq", [])).endswith("(known: none)")
    many = [f"m{number}" for number in range(10, 99)]
    assert str(unknown_name("model", "qqq", many)).endswith("(known: m10, m11, m12, m13, m14 and 84 more)")
    assert "'resnet18'" in str(unknown_name("model", "resnet_18", ["resnet18", *(f"m{i}" for i in range(900))]))


@pytest.fixture
def temporary_recipes(tmp_path, monkeypatch):
    """A second folder of recipes in place of the package's, with the package's own base class."""
    import advalign.recipes

    folder = tmp_path / "recipes"
    folder.mkdir()
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "catalog.py"))
    monkeypatch.setattr(advalign.recipes, "__path__", [str(folder), *advalign.recipes.__path__])
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        if name.startswith("advalign.recipes.tmp_"):
            del sys.modules[name]
            delattr(advalign.recipes, name.rsplit(".")[-1])


def test_a_new_file_is_a_new_entry(temporary_recipes):
    (temporary_recipes / "tmp_one.py").write_text(
        "from advalign.recipes.base import Recipe\nfrom advalign.recipes.baseline import Baseline\n"
        "class One(Recipe): ...\nclass Helper: ...\n"
    )
    assert catalog.names("recipe") == ["tmp-one"]
    assert catalog.load("recipe", "tmp-one").__name__ == "One"


@pytest.mark.parametrize(
    ("name", "body", "count"), [("tmp_two", "class A(Recipe): ...\nclass B(Recipe): ...\n", 2), ("tmp_none", "", 0)]
)
def test_an_entry_file_with_two_classes_or_none_is_a_defect(temporary_recipes, name, body, count):
    (temporary_recipes / f"{name}.py").write_text(f"from advalign.recipes.base import Recipe\n{body}")
    with pytest.raises(TypeError, match=rf"advalign\.recipes\.{name} must define exactly one Recipe, found {count}$"):
        catalog.load("recipe", name.replace("_", "-"))


def test_replacing_moves_the_new_file_over_the_old_one(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"first")
        assert not path.exists()
    with replacing(path) as temporary:
        temporary.write_bytes(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert [item.name for item in path.parent.iterdir()] == ["file.bin"]


def test_replacing_keeps_the_old_file_when_the_block_raises(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written: an error, not an empty file
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


def test_killed_in_the_middle_the_old_file_is_whole(tmp_path):
    path = tmp_path / "result.bin"
    path.write_bytes(b"old" * 1000)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom advalign.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary, temporary.open('wb') as file:\n"
        "    file.write(b'new' * 400); file.flush(); print('half', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ | _on_path()
    ) as child:
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert path.read_bytes() == b"old" * 1000
    with replacing(path) as temporary:  # the leftover of the killed process is in nobody's way
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert sha256(path) == hashlib.sha256(b"new").hexdigest()


def test_project_is_found_upward_and_the_nearest_wins(tmp_path, monkeypatch):
    inner = tmp_path / "outer" / "inner"
    (inner / "a" / "b").mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "params.yaml").touch()
    assert Project.find(inner / "a" / "b") == Project(inner)
    assert Project.find(inner.parent) == Project(inner.parent)
    monkeypatch.chdir(inner / "a")
    assert Project.find().root == inner
    project = Project(inner)
    assert project.data == inner / "data"
    assert project.stimuli == inner / "outputs" / "stimuli"
    assert project.zoo == inner / "registry" / "zoo.yaml"


def test_an_experiment_shares_the_registry_of_the_project_around_it(tmp_path):
    inner, own = (tmp_path / "experiments" / name for name in ("second", "own"))
    for folder in (tmp_path, inner, own):
        (folder / "outputs").mkdir(parents=True)
        (folder / "params.yaml").touch()
    alone = Project.find(inner / "outputs")
    assert (alone.home, alone.experiment) == (inner, "main")  # nothing to share: a project in a folder of that name
    for folder in (tmp_path, own):
        (folder / "registry").mkdir()
    found = Project.find(inner / "outputs")
    assert (found.root, found.home, found.experiment) == (inner, tmp_path, "second")
    assert found.evaluations == inner / "outputs" / "evaluations"
    assert {found.zoo.parent, found.gates.parent, found.trainings.parent} == {tmp_path / "registry"}
    for folder in (tmp_path, own):  # a clone of a whole project is its own home wherever it lies
        assert (Project.find(folder).home, Project.find(folder).experiment) == (folder, "main")
    assert Project.find(tmp_path / "experiments").root == tmp_path


@pytest.mark.parametrize(("name", "said"), [("main", "'main' names the experiment at"), ("my own", "cannot name a")])
def test_a_folder_with_a_name_that_no_experiment_can_have_is_refused(tmp_path, name, said):
    (tmp_path / "registry").mkdir()
    (tmp_path / "experiments" / name).mkdir(parents=True)
    (tmp_path / "experiments" / name / "params.yaml").touch()
    with pytest.raises(InputError, match=said):
        Project.find(tmp_path / "experiments" / name)


def test_outside_a_project_the_error_names_the_folder(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path} is not inside a project: no params.yaml")) as caught:
        Project.find(tmp_path)
    assert caught.value.exit_code == 2


def test_missing_data_says_how_to_get_it(tmp_path):
    project = Project(tmp_path)
    with pytest.raises(DataError, match=r"^data/classes\.yaml is missing: `dvc pull data\.dvc` gets the data"):
        project.need_data(project.data / "classes.yaml")
    assert project.need_data(tmp_path) == tmp_path
    (tmp_path / "registry").mkdir()
    other = Project(tmp_path / "experiments" / "other")
    with pytest.raises(DataError, match=r"^data is missing: `advalign data import` imports your own copies"):
        other.need_data(other.data)
    assert errors.CheckFailed.exit_code == 1


def test_data_md5_reads_the_pointer_of_dvc(tmp_path):
    assert provenance.data_md5(tmp_path) is None
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 1f2e.dir\n  size: 5\n  nfiles: 2\n  hash: md5\n  path: data\n")
    assert provenance.data_md5(tmp_path) == "1f2e.dir"
    for broken in ("outs: []\n", "", "- 1\n", "outs: {", "outs: [{path: data}]\n"):
        (tmp_path / "data.dvc").write_text(broken)
        assert provenance.data_md5(tmp_path) is None


def test_git_state_tells_commit_and_whether_tracked_files_differ(tmp_path):
    assert provenance.git_state(tmp_path) == (None, None)
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "a").write_text("1")
    for command in (["init", "-q"], ["add", "a"], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    commit, dirty = provenance.git_state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert dirty is False
    (tmp_path / "untracked").touch()
    assert provenance.git_state(tmp_path) == (commit, False)
    (tmp_path / "a").write_text("2")
    assert provenance.git_state(tmp_path) == (commit, True)
