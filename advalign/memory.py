"""Memory of processes: what there is, what a piece of work takes, and how freed memory is kept for reuse.

Everything here is about the CPU's memory. Where the system does not tell (macOS, Windows), the answer is None.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

KEEP = {-4: 0, -1: 2**31 - 1}
"""glibc's M_MMAP_MAX and M_TRIM_THRESHOLD: no block of its own for a large tensor, nothing back to the system."""
ROOT = Path("/")


def keep_freed_memory() -> None:
    """Make this process reuse the memory that tensors free; where the C library cannot do so, nothing changes.

    By default glibc returns large blocks to the system, and fetches them again page by page in the next pass: a third
    of the CPU time of a real network (docs/lab-notes.md). Child processes that are forked inherit this, others do not.
    """
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is not None:
        for option, value in KEEP.items():
            mallopt(option, value)


def available(root: Path = ROOT) -> int | None:
    """Bytes that processes here can still take: the machine's, or what control groups (v1, v2) leave of their limits.

    Args:
        root: of the file system.
    """
    found = []
    machine = _numbers(root / "proc/meminfo").get("MemAvailable:")
    if machine is not None:
        found.append(machine * 1024)
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            found += _left(root / "sys/fs/cgroup/memory", path, *names)
    return max(0, min(found)) if found else None


def held() -> int | None:
    """Bytes that this process alone has in memory, once what it has freed is given back; libraries are shared."""
    _give_back()
    return _status("RssAnon:")


def taken(work: Callable[[], object]) -> int | None:
    """The most bytes that a piece of work has in memory at once; it is run once, even where the answer is None.

    Freed memory is given back first, so that what the work takes is seen.
    """
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is resident now
        before = _status("VmRSS:")
    except OSError:
        before = None
    work()
    peak = _status("VmHWM:")
    return None if before is None or peak is None else max(0, peak - before)


def _give_back() -> None:
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None


def _status(name: str) -> int | None:
    found = _numbers(Path("/proc/self/status")).get(name)
    return None if found is None else found * 1024


def _left(mount: Path, path: str, limit: str, usage: str, idle: str) -> list[int]:
    """What the limits of a control group and of those around it leave; files that are only cached count as free."""
    own = mount / path.strip("/")
    found = []
    for group in (own, *own.parents) if own.is_dir() else (mount,):  # a container sees its own group as the mount
        highest, used = _number(group / limit), _number(group / usage)
        if highest is not None and used is not None:
            found.append(highest - used + _numbers(group / "memory.stat").get(idle, 0))
        if group == mount:
            break
    return found


def _number(path: Path) -> int | None:
    text = "".join(_lines(path))
    return int(text) if text.isdecimal() else None  # "max": no limit


def _numbers(path: Path) -> dict[str, int]:
    """Name -> number, of a file with a name and a number in every line."""
    words = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in words if len(pair) > 1 and pair[1].isdecimal()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
