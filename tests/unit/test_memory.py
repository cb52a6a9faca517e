"""What memory there is, by hand-written files of the system, and what work takes, by known sizes."""

import subprocess
import sys

import pytest

from advalign.memory import available, taken

GIB = 2**30
V1 = "4:memory:/jobs/one\n1:cpu:/\n"
V2 = "0::/jobs/one\n"


def system(root, groups, **files):
    """A file system with 8 GiB available, and control groups: folder -> file -> content."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for place, content in files.items():
        path = root / "sys/fs/cgroup" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return available(root)


def test_without_limits_the_machine_has_what_it_has(tmp_path):
    assert system(tmp_path, V2, **{"jobs/one/memory.max": "max", "jobs/one/memory.current": GIB}) == 8 * GIB


@pytest.mark.parametrize("inside", ["jobs/one/", "jobs/", ""])
def test_a_limit_of_a_control_group_counts_wherever_it_is_set(tmp_path, inside):
    files = {"jobs/one/memory.max": "max", f"{inside}memory.max": 3 * GIB, f"{inside}memory.current": 2 * GIB}
    files[f"{inside}memory.stat"] = f"anon 7\ninactive_file {GIB // 2}"
    assert system(tmp_path, V2, **files) == 1.5 * GIB


def test_of_two_versions_the_first_is_read_too(tmp_path):
    own = "memory/jobs/one/memory"
    files = {f"{own}.limit_in_bytes": 2 * GIB, f"{own}.usage_in_bytes": GIB, f"{own}.stat": "total_inactive_file 5"}
    assert system(tmp_path, V1, **files, **{"memory/memory.limit_in_bytes": 2**63 - 4096}) == GIB + 5


def test_in_a_container_the_mount_is_the_own_group(tmp_path):
    assert system(tmp_path, V2, **{"memory.max": GIB, "memory.current": 2 * GIB}) == 0


def test_where_the_system_does_not_tell_nothing_is_made_up(tmp_path):
    assert available(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")
def test_what_work_takes_is_seen_also_where_freed_memory_is_kept():
    size = 64 * 2**20
    assert b"x" * (2 * size)  # is freed
    assert 0.95 * size <= taken(lambda: b"x" * size) < 1.2 * size


REUSE = """
import resource, sys
from advalign.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (len(sys.argv) * 24 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_used_again_without_page_faults():
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", REUSE, how], capture_output=True, check=True, text=True).stdout)
        for how in ("keep", "return")
    )
    assert returned > 10 * 48 * 2**20 / 4096 * 0.9  # every page, every turn
    assert kept < returned / 100
