"""What the machine does during a training, as MLflow's own monitors read it.

MLflow would read and log them in a thread of its own, which waits for minutes where a store does not answer; read here,
they are logged, and kept back, with everything else.
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
            with suppress(Exception):  # there is no GPU, or not the library that reads it
                self.monitors.append(kind())

    def look(self) -> dict[str, float]:
        """Read all once, by MLflow's names (system/cpu_utilization_percentage); what cannot be read is left out."""
        found: dict[str, float] = {}
        for monitor in self.monitors:
            with suppress(Exception):  # no reason to end a training
                monitor.collect_metrics()
                found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
        return found
