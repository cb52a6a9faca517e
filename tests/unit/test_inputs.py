"""Digests of input files: by content, remembered only while nothing can have changed; and data/ against data.dvc."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from advalign import inputs
from advalign.errors import DataError
from advalign.inputs import content_digest, digests, folder_md5, tracked


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are really read."""
    names, real = [], inputs._digests
    monkeypatch.setattr(inputs, "_digests", lambda file: names.append(file.name) or real(file))
    monkeypatch.setattr(inputs, "FRESH", -1)  # files of this test are old enough at once
    return names


def test_digests_are_those_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    found = digests([tmp_path / "a"], None)[tmp_path / "a"]
    assert (found.sha256, found.md5) == (hashlib.sha256(b"one").hexdigest(), hashlib.md5(b"one").hexdigest())


def test_a_file_is_read_again_only_when_it_changed(tmp_path, read):
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(b"same size")
    memory = tmp_path / "memory.db"
    first = digests(files, memory)
    assert digests(files, memory) == first
    assert read == ["a", "b"]
    time = files[0].stat().st_mtime_ns
    files[0].write_bytes(b"SAME SIZE")
    os.utime(files[0], ns=(time, time))
    assert digests(files, memory)[files[0]].sha256 == hashlib.sha256(b"SAME SIZE").hexdigest()
    assert read == ["a", "b", "a"]
    other = tmp_path / "other"
    other.write_bytes(b"Same Size")
    os.utime(other, ns=(time, time))
    other.replace(files[1])
    assert digests(files, memory)[files[1]].sha256 == hashlib.sha256(b"Same Size").hexdigest()
    assert digests(files, None)
    assert read == ["a", "b", "a", "b", "a", "b"]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(inputs, "FRESH", 10**12)
    (tmp_path / "a").write_bytes(b"one")
    for _ in range(2):
        digests([tmp_path / "a"], tmp_path / "memory.db")
    assert read == ["a", "a"]


def test_a_damaged_memory_is_not_believed_and_made_again(tmp_path, read):
    (tmp_path / "a").write_bytes(b"one")
    memory, truth = tmp_path / "memory.db", hashlib.sha256(b"one").hexdigest()
    digests([tmp_path / "a"], memory)
    memory.write_bytes(memory.read_bytes().replace(truth.encode(), (truth[:-1] + "x").encode()))
    assert digests([tmp_path / "a"], memory)[tmp_path / "a"].sha256 == truth
    memory.write_bytes(b"no database at all")
    for _ in range(3):
        assert digests([tmp_path / "a"], memory)[tmp_path / "a"].sha256 == truth
    assert read == ["a"] * 4  # the last time it was remembered again


def test_a_folder_with_signs_of_addresses_in_its_name_is_remembered_too(tmp_path, read):
    folder = tmp_path / "a b%20c?#"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    for _ in range(2):
        digests([folder / "a"], folder / "memory.db")
    assert read == ["a"]


def test_a_memory_that_may_not_be_written_costs_time_only(tmp_path, read):
    (tmp_path / "a").write_bytes(b"one")
    memory = tmp_path / "memory.db"
    memory.mkdir()  # what sqlite cannot open
    assert digests([tmp_path / "a"], memory)[tmp_path / "a"].sha256 == hashlib.sha256(b"one").hexdigest()


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(
        DataError, match=r"absent: cannot be read \(No such file or directory\): put it back, or import it again"
    ):
        digests([tmp_path / "absent"], None)


def test_the_digest_of_several_files_is_of_names_and_content(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    both = content_digest(tmp_path, digests([tmp_path / "a", tmp_path / "b"], None))
    assert content_digest(tmp_path, digests([tmp_path / "b", tmp_path / "a"], None)) == both
    (tmp_path / "a").write_bytes(b"2")
    (tmp_path / "b").write_bytes(b"1")
    assert content_digest(tmp_path, digests([tmp_path / "a", tmp_path / "b"], None)) != both


def looked(root, files):
    return tracked(root, digests(files, None), None)


@pytest.fixture(scope="module")
def versioned(tmp_path_factory):
    """A folder that DVC itself has added."""
    root = tmp_path_factory.mktemp("versioned")
    for name in ("a.txt", "deep/b.bin", "deep/er/c.txt"):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_bytes(name.encode() * 100)
    for command in ("init --no-scm", "add data"):
        subprocess.run([sys.executable, "-m", "dvc", "-q", *command.split()], cwd=root, check=True)
    return root


@pytest.mark.slow
def test_the_digest_of_a_folder_is_dvcs(versioned):
    told = yaml.safe_load((versioned / "data.dvc").read_text())["outs"][0]["md5"]
    (versioned / "data" / ".half.tmp").write_bytes(b"of a killed writer")
    assert folder_md5(versioned / "data", None) == told
    assert looked(versioned, [versioned / "data" / "a.txt"]).used == told


@pytest.mark.slow
@pytest.mark.parametrize("place", ["list", "config"])
def test_damage_of_dvcs_own_files_is_no_traceback(versioned, tmp_path, place):
    root = shutil.copytree(versioned, tmp_path / "copy", symlinks=True)
    (root / "data" / ".half.tmp").unlink(missing_ok=True)
    (listing,) = (root / ".dvc" / "cache").rglob("*.dir")
    listing.chmod(0o644)
    path = {"list": listing, "config": root / ".dvc" / "config"}[place]
    path.write_bytes(b"\xff[" + path.read_bytes())
    assert not looked(root, [root / "data" / "a.txt"]).changed  # by all files of data/, or DVC's usual cache


@pytest.mark.slow
@pytest.mark.parametrize("listed", [True, False])
def test_files_that_are_not_what_data_dvc_says_are_named(versioned, tmp_path, listed):
    root = shutil.copytree(versioned, tmp_path / "copy", symlinks=True)
    (root / "data" / ".half.tmp").unlink(missing_ok=True)
    if not listed:
        shutil.rmtree(root / ".dvc" / "cache")
    reads = [root / "data" / name for name in ("a.txt", "deep/b.bin")]
    assert not looked(root, reads).changed
    (root / "data" / "deep" / "b.bin").unlink()  # DVC may have made it a link into its cache
    (root / "data" / "deep" / "b.bin").write_bytes(b"edited")
    found = looked(root, reads)
    assert found.changed == ((reads[1],) if listed else (root / "data",))
    assert found.used is None
    assert found.warning.startswith(f"{found.changed[0]} is not what data.dvc says: `dvc checkout data.dvc`")
    (root / "data" / "deep" / "er" / "c.txt").write_bytes(b"not read")
    assert looked(root, reads[:1]).changed == (() if listed else (root / "data",))


def test_data_that_is_not_tracked_has_no_version(tmp_path):
    assert tracked(tmp_path, {}, None) == inputs.Tracked(None)
    assert tracked(tmp_path, {}, None).used is None
