"""The tracking store, runs, registered models, lineage, gates and promotion; only this package imports MLflow."""

import os
import sys
import warnings

# MLflow decides at import whether it reports usage: the variable must be set before this package imports it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is for the command's results
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git is no reason for 30 lines of warnings
# A dead server is noticed in seconds, not in minutes; callers that can wait longer try again.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

if sys.flags.optimize > 1:  # Python without docstrings: MLflow fills some of them, and warns for each of its sources
    warnings.filterwarnings("ignore", "Failed to register a dataset source", UserWarning)
