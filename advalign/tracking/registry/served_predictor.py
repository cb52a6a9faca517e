"""The code of a registered predictor: MLflow copies this file into the version, and runs it to load the version."""

import mlflow

from advalign.tracking.registry.served_model import ServedPredictor

mlflow.models.set_model(ServedPredictor())
