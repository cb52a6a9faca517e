"""Disks that are full or may not be written, and output that nobody reads: one line, and what was there stays."""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from advalign.errors import InputError
from advalign.files import Project, replacing, write_text
from tests.conftest import REPOSITORY
from tests.foreign import drawn, encoded, example, shard
from tests.team.processes import Spoken

LIMIT = 10_000  # bytes of a file, on the disk that is full here
DROP, OVERRIDES = 24, (1, 2)  # prctl(PR_CAPBSET_DROP): what lets root write and read against permissions
CAPABILITIES = 0x20080522  # version of capset's structures


@contextmanager
def full_disk():
    """Let no file of this process grow beyond LIMIT."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def torch_save(path):
    torch.save({"a": torch.zeros(100_000)}, path)


def torch_save_opened(path):
    with path.open("wb") as file:
        torch.save({"a": torch.zeros(100_000)}, file)


WRITERS = {
    "text": lambda path: path.write_text("x" * 100_000),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, path),
    "torch, by name": torch_save,
    "torch, opened": torch_save_opened,
    "parquet": lambda path: pd.DataFrame({"a": np.random.default_rng(0).random(100_000)}).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, name):
    """Whichever library writes; safetensors and torch raise errors of their own."""
    path = tmp_path / "file"
    write_text(path, "old")
    with full_disk(), pytest.raises(OSError, match=r"\[Errno \d+\] ") as caught, replacing(path) as temporary:
        WRITERS[name](temporary)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(InputError, match=r"^wrong$"), replacing(tmp_path / "file"):
        try:
            (tmp_path / "absent").read_text()
        except OSError:
            raise InputError("wrong") from None
    with pytest.raises(RuntimeError, match=r"^wrong$"), replacing(tmp_path / "file"):
        raise RuntimeError("wrong")


def obey_permissions():
    """In a process of root: obey permissions as anybody does, and so will all that it starts."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None)
    header, held = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    for capability in OVERRIDES:
        libc.prctl(DROP, capability, 0, 0, 0)
        for kind in range(3):  # effective, permitted, inheritable
            held[kind] &= ~(1 << capability)
    assert libc.capset(header, held) == 0


def cli(root, *words, prepare=None):
    """Run the command line in a process that has imported everything already."""
    code, said = Spoken(root, tuple(map(str, words)), prepare).end()
    return subprocess.CompletedProcess(words, code, stderr=said)


def child(root, *words, prepare=None, **streams):
    """Run the command line from its first import on."""
    hidden = ("MLFLOW_TRACKING_URI", "ADVALIGN_DEBUG")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, "-m", "advalign.cli.main", *map(str, words)],
        cwd=root,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        preexec_fn=prepare,
        text=True,
        check=False,
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams),
    )


def is_one_line(done, *told):
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert lines[0].startswith("advalign: error: ")
    for words in told:
        assert words in lines[0]


def contents(root):
    return {path: sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def stored(sample_root, tmp_path_factory):
    """The tiny project with a tracking store, and a shard to import."""
    root = tmp_path_factory.mktemp("stored") / "project"
    shutil.copytree(sample_root, root)
    shutil.copy(REPOSITORY / "registry" / "imagenet.yaml", root / "registry")
    image, heatmap = drawn(32, 0)
    shard(root / "own" / "test-own.tfrecords", example(image=encoded(image), heatmap=encoded(heatmap), label=3))
    assert cli(root, "registry", "list").returncode == 0
    return root


@pytest.fixture
def mine(stored, tmp_path):
    """A copy of it."""
    shutil.copytree(stored, tmp_path / "project")
    return tmp_path / "project"


COMMANDS = {
    "init": ("init", "new"),
    "sample": ("data", "sample", "--output", "new", "--scale", "0.01"),
    "classes": ("data", "import", "classes", "--replace"),
    "shard": ("data", "import", "clickme", "own", "--workers", 1),
    "train": ("train", "baseline"),
    "registry": ("registry", "list"),
    "publish": ("publish",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_project_that_may_not_be_written_is_one_line(mine, name):
    for path in (mine, *mine.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = contents(mine)
    is_one_line(cli(mine, *COMMANDS[name], prepare=obey_permissions), "Permission denied")
    assert contents(mine) == before
    for path in (mine, *mine.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["init", "sample", "classes", "shard", "train"])
def test_a_full_disk_is_one_line_and_changes_nothing(mine, name):
    words = COMMANDS[name]
    if name == "shard":
        (mine / "data" / "clickme" / "test-own.tfrecords").write_bytes(b"another")
        words += ("--replace",)
    before = contents(mine)
    is_one_line(cli(mine, *words, prepare=fill))
    after = contents(mine)
    assert {path: after[path] for path in before if path.name != "mlflow.db"} == {
        path: digest for path, digest in before.items() if path.name != "mlflow.db"
    }
    left = after.keys() - before.keys() - {Project(mine).digests}  # which may be removed at any time
    assert not [path for path in left if path.suffix != ".lock" and "new" not in path.parts]


@pytest.mark.slow
def test_a_database_that_may_not_be_written_is_read(mine):
    assert cli(mine, "registry", "list").returncode == 0  # writes: a copied database follows its project
    (mine / "mlflow.db").chmod(0o444)
    assert cli(mine, "registry", "list", prepare=obey_permissions).returncode == 0
    refused = cli(mine, "train", "baseline", prepare=obey_permissions)
    is_one_line(refused, "mlflow.db cannot be used: attempt to write a readonly database: make room or give permission")


def test_output_that_nobody_reads_is_one_line(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    is_one_line(child(tmp_path, "protocols", stdout=writing), "the output cannot be written (Broken pipe)")
    os.close(writing)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")  # noqa: PTH110
def test_output_to_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        is_one_line(child(tmp_path, "protocols", stdout=full), "No space left on device")


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_closed_stream_breaks_nothing(tmp_path, stream):
    done = child(tmp_path, "protocols", prepare=lambda: os.close(stream))
    assert (done.returncode, done.stderr) == (0, "")
    assert ("fmn-fast" in done.stdout) == (stream != 1)
    failed = child(tmp_path, "evaluate", prepare=lambda: os.close(stream))
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert ("is not inside a project" in failed.stderr) == (stream != 2)
