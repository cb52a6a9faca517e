"""Stage `evaluate`: attack and score every trained model, and those of the zoo that params.yaml names."""

from advalign.errors import CheckFailed
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines import create_engine
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.models.declared import read_zoo
from advalign.progress import progress
from advalign.settings import Settings
from advalign.training.world import choose_device
from advalign.workflows.sources import find_sources
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/checkpoints and the zoo -> outputs/evaluations/PROTOCOL, for the headline protocol and `evaluate.also`.

    The failure of a zoo model (its weights cannot be fetched, say) is recorded and does not stop the pipeline.
    """
    device = str(choose_device("auto"))
    engine = create_engine("local", device, settings.evaluate.threads)
    kept = {folder.name for place in (project.runs, project.handed) for folder in place.glob("*")} | set(
        read_zoo(project.zoo).models
    )
    failed = []
    for protocol in (settings.evaluate.protocol, *settings.evaluate.also):
        evaluator = Evaluator(project, settings, protocol, device=device)
        trained = [TrainedModel(project.checkpoints / name) for name in settings.trainings]
        zoo = find_sources(project, evaluator.classes, list(settings.evaluate.zoo)) if settings.evaluate.zoo else []
        evaluator.remove_stale({source.name for source in trained} | kept)
        with progress(f"{protocol} on {len(trained) + len(zoo)} models") as advance:
            outcomes = Campaign(evaluator, [*trained, *zoo], engine, advance).run()
        for outcome in outcomes:
            print(f"{protocol} {outcome.name}: {outcome.state} {outcome.error}".rstrip())
            if outcome.state == "failed" and outcome.name in settings.trainings:
                failed.append(f"{outcome.name} ({protocol})")
    if failed:
        raise CheckFailed(f"{len(failed)} evaluations failed: {', '.join(failed)}")


if __name__ == "__main__":
    run_stage(stage)
