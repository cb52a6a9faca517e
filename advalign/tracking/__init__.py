"""MLflow: the only importers of it. Runs, registered models, lineage, and the publishing that brings them about."""

import os

# MLflow decides at its own import whether it reports usage: it must be told before any file of this package imports it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
