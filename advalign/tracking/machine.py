"""Load of the machine during a training, read by MLflow's own monitors.

MLflow would read and log them in its own thread, which waits for minutes where a store does not answer. Read here, they
are logged with all other metrics, and wait with them.
"""

from contextlib import suppress
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor


class Machine:
    """Monitors of processor, memory, disk, network and GPU."""

    def __init__(self) -> None:
        kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor]
        self.monitors = []
        for kind in kinds:
            with suppress(Exception):  # no GPU, or no library to read it
                self.monitors.append(kind())

    def look(self) -> dict[str, float]:
        """Read all monitors once, by MLflow's names (system/cpu_utilization_percentage), without unreadable ones."""
        found: dict[str, float] = {}
        for monitor in self.monitors:
            with suppress(Exception):  # must not end a training
                monitor.collect_metrics()
                found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
        return found
