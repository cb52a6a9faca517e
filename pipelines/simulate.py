"""Stage `simulate` of experiments/neural: responses with known content, from images and teachers."""

from advalign.data.responses import ResponseStore
from advalign.files import Project
from advalign.settings import Settings
from advalign.workflows.simulated_responses import simulate
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """data, outputs/checkpoints -> outputs/responses."""
    store = ResponseStore.open(simulate(project, settings))
    print(f"{store.path.stem}: {len(store.trials)} trials, {len(store.units)} units, provenance {store.provenance}")


if __name__ == "__main__":
    run_stage(stage)
