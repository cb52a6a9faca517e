"""Stage `train`: one checkpoint, by its name under `trainings` in params.yaml."""

import sys

from advalign.errors import InputError, unknown_name
from advalign.files import Project
from advalign.settings import Settings
from advalign.training.plan import plan
from advalign.workflows.tracked_training import train_tracked
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """data/clickme -> outputs/checkpoints/NAME. Where the store does not answer, `publish` logs the training later."""
    name = sys.argv[1]
    if name not in settings.trainings:
        raise unknown_name("training", name, settings.trainings)
    planned = plan(project, settings, settings.trainings[name])
    if planned.name != name:
        raise InputError(f"params.yaml: trainings.{name} must be called {planned.name!r} after its settings")
    tracked = train_tracked(project, planned, project.checkpoints / name, store_needed=False)
    state = "trained" if tracked.trained else "kept"
    print(f"{name}: {state}, val accuracy {tracked.card.metrics['val_accuracy']:.3f}")
    if tracked.outage:
        print(f"advalign: {tracked.outage}; `advalign publish` brings this training there", file=sys.stderr)


if __name__ == "__main__":
    run_stage(stage)
