"""What the fork server imports once for all processes of these tests."""
# ruff: noqa: F401

import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store
import pytest

import advalign.analysis.drawing
import advalign.cli.main
import advalign.evaluation.campaign
import advalign.evaluation.engines.local
import advalign.evaluation.runner
import advalign.recipes.baseline
import advalign.recipes.combined
import advalign.recipes.robust
import advalign.tracking.registry.promotion
import advalign.tracking.transfer
import advalign.training.train
import advalign.workflows.publish
import advalign.workflows.tracked_training
import tests.conftest
