"""Time and memory of work in this process."""

import ctypes
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psutil
import torch

TURNS = 5
Result = TypeVar("Result")


def ratio(ours: Callable[[], object], peer: Callable[[], object], turns: int = TURNS) -> float:
    """Median over turns of our time divided by the peer's, the two run one after the other in each turn."""
    ratios = []
    for _ in range(turns + 1):
        times = []
        for work in (ours, peer):
            wait_for_device()
            start = time.perf_counter()
            work()
            wait_for_device()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios[1:])  # the first turn warms up


def wait_for_device() -> None:
    """Until a GPU has done what it was asked to; a CPU has."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass
class Cost:
    """Seconds, and the most memory above what was in use before (MiB; of the GPU where there is one)."""

    seconds: float = 0.0
    memory: float = 0.0

    def measure(self, work: Callable[[], Result]) -> Result:
        """Run, and add what it took."""
        ctypes.CDLL(None).malloc_trim(0)  # what others freed goes back to the system first
        gpu = torch.cuda.is_available()
        process = psutil.Process(os.getpid())
        before = process.memory_info().rss
        highest, ended = [before], threading.Event()

        def watch() -> None:
            while not ended.wait(0.01):
                highest.append(max(highest.pop(), process.memory_info().rss))

        if gpu:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        result = work()
        if gpu:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        ended.set()
        watcher.join()
        peak = torch.cuda.max_memory_allocated() if gpu else highest[0]
        self.memory = max(self.memory, (peak - before) / 2**20)
        return result
