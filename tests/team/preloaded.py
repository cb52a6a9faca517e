"""What the fork server imports once for all processes of these tests."""

import advalign.analysis.drawing
import advalign.cli.main
import advalign.recipes.baseline
import advalign.recipes.combined
import advalign.recipes.robust
import advalign.tracking.registry.promotion
import advalign.tracking.transfer
import advalign.training.train
import advalign.workflows.publish  # noqa: F401
