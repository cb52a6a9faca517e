"""The code of a registered version: MLflow copies this file into the version, and runs it to load the version."""

import mlflow

from advalign.tracking.registry.served_model import ServedClassifier

mlflow.models.set_model(ServedClassifier())
