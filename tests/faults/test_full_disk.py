"""A disk that becomes full at thirty random moments of the road, or few files: one line, and the road ends as ever."""

import random
import resource
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

from advalign import seals
from advalign.data.results import Paths, read_rows, read_summary
from advalign.files import Project, sha256
from advalign.models.checkpoints import WEIGHTS
from advalign.tracking.registry.registered import versions_of
from advalign.tracking.store import open_store
from tests.conftest import REPOSITORY, with_stimuli
from tests.foreign import drawn, encoded, example, shard
from tests.team.processes import Spoken

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

NAME, PROTOCOL = "test_resnet.baseline", "fmn-5"
ROAD = (
    ("data", "import", "clickme", "own", "--workers", "1", "--replace"),
    ("train", "baseline", "--set", "save_minutes=0.00001"),
    ("evaluate", NAME, "--protocol", PROTOCOL, "--workers", "1"),
    ("compare", "--protocol", PROTOCOL),
    ("publish",),
    ("registry", "promote", NAME, "--force", "--reason", "a drill"),
)
MOMENTS = 15  # of each way to fill a disk
ROOM = 256 << 20  # bytes of the small disk
NOTICES = (  # what commands say beside an error, of what they could not write and go on without
    "; the training continues, and its metrics are logged later",
    "): the decision is in the tracking store only",
)


class Limited:
    """No file grows any more: the kernel's limit on files of a process that runs."""

    @contextmanager
    def disk(self, folder):
        yield folder

    @contextmanager
    def full(self, folder, process):
        with suppress(ProcessLookupError):  # it ended already
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        yield


class Filled:
    """A small disk, which another file fills."""

    @contextmanager
    def disk(self, folder):
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder], check=False)
        if made.returncode:
            pytest.skip("a disk can be mounted by root only")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)

    @contextmanager
    def full(self, folder, process):
        filler = folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        yield
        filler.unlink()


def finished(root):
    """What the road leads to."""
    project = Project(root)
    store, paths = open_store(project), Paths(project.evaluations / PROTOCOL, NAME)
    versions = versions_of(store, NAME)
    return {
        "imported": sorted(sha256(path) for path in (root / "data" / "clickme").glob("test-own.*")),
        "weights": sha256(project.runs / NAME / WEIGHTS),
        "rows": read_rows(paths.rows).drop(columns="seconds", errors="ignore").to_json(),
        "metrics": read_summary(paths)["metrics"],
        "comparison": seals.read_json(project.comparison / "statistics.json", "")["models"],
        "versions": len(versions),
        "champion": [alias for version in versions for alias in version.aliases],
        "decisions": len(list(project.decisions.glob("*.json"))),
    }


@pytest.fixture(scope="module")
def start(sample_root, tmp_path_factory):
    """The tiny project at the beginning of the road."""
    root = tmp_path_factory.mktemp("start") / "project"
    with_stimuli(sample_root, root)
    for name in ("gates.yaml", "imagenet.yaml"):
        shutil.copy(REPOSITORY / "registry" / name, root / "registry")
    image, heatmap = drawn(32, 0)
    shard(root / "own" / "test-own.tfrecords", example(image=encoded(image), heatmap=encoded(heatmap), label=0))
    return root


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """The seconds that each command takes, and what the road leads to."""
    root, seconds = shutil.copytree(start, tmp_path_factory.mktemp("undisturbed") / "project"), []
    for words in ROAD:
        begun = time.monotonic()
        assert Spoken(root, words).told() == (0, [])
        seconds.append(time.monotonic() - begun)
    return seconds, finished(root)


@pytest.mark.parametrize("way", [Limited(), Filled()], ids=["limited", "filled"])
def test_a_disk_that_becomes_full_is_one_line_and_loses_nothing(start, undisturbed, tmp_path, way):
    chance, (seconds, truth) = random.Random(0), undisturbed
    share = [moment % len(ROAD) for moment in range(MOMENTS)]
    stopped = 0
    with way.disk(tmp_path) as disk:
        root = shutil.copytree(start, disk / "project")
        for place, words in enumerate(ROAD):
            for _ in range(share.count(place)):
                command = Spoken(root, words)
                time.sleep(chance.uniform(0, seconds[place]))
                with way.full(disk, command.process):
                    code, lines = command.told()
                stopped += code != 0
                assert code in (0, 2), lines
                assert [line for line in lines if not line.startswith("advalign: ")] == []
                rest = [line for line in lines if not line.endswith(NOTICES)]
                assert ["advalign: error: " in line for line in rest] == [True] * (code == 2), lines
            assert Spoken(root, words).told() == (0, []), words
        assert finished(root) == truth
    assert stopped >= MOMENTS // 3


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def test_the_road_with_few_open_files_is_walked_or_one_line(start, undisturbed, tmp_path):
    root = shutil.copytree(start, tmp_path / "project")
    for words in ROAD:
        code, lines = Spoken(root, words, few_files).told()
        assert code in (0, 2), lines
        assert ["advalign: error: " in line for line in lines] == [True] * (code == 2), lines
        if code:
            assert Spoken(root, words).told() == (0, []), words
    assert finished(root) == undisturbed[1]


def test_a_store_whose_making_was_cut_off_is_made_again(start, tmp_path):
    """MLflow itself says for ever that a table already exists."""
    root, words = shutil.copytree(start, tmp_path / "project"), ("registry", "list")
    database = root / "mlflow.db"
    for _ in range(3):
        command = Spoken(root, words)
        while not any(path.stat().st_size for path in root.glob(".mlflow.db.*.tmp")):
            assert command.process.exitcode is None
        command.process.kill()
        command.end()
        assert not database.exists()
    assert Spoken(root, words).told() == (0, [])
    assert database.is_file()
