"""Stage `evaluate`: attack and score every trained model; finished ones whose inputs are unchanged are kept."""

from advalign.errors import CheckFailed
from advalign.evaluation.engines import local
from advalign.evaluation.runner import Evaluator, default_workers
from advalign.files import Project
from advalign.progress import progress
from advalign.settings import Settings
from advalign.training.train import choose_device
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/checkpoints -> outputs/evaluations/PROTOCOL, for the headline protocol and those beside it."""
    device = str(choose_device("auto"))
    engine = local(default_workers(device, settings.evaluate.threads))
    failed = []
    by_hand = {folder.name for folder in project.runs.glob("*")}
    for protocol in (settings.evaluate.protocol, *settings.evaluate.also):
        evaluator = Evaluator(project, settings, protocol, device=device)
        subjects = [evaluator.subject(project.checkpoints / name) for name in settings.trainings]
        evaluator.remove_stale({subject.name for subject in subjects} | by_hand)
        with progress(f"{protocol} on {len(subjects)} models") as advance:
            outcomes = evaluator.run(subjects, engine, advance)
        for outcome in outcomes:
            print(f"{protocol} {outcome.name}: {outcome.state} {outcome.error}".rstrip())
        failed += [f"{outcome.name} ({protocol})" for outcome in outcomes if outcome.state == "failed"]
    if failed:
        raise CheckFailed(f"{len(failed)} evaluations failed: {', '.join(failed)}")


if __name__ == "__main__":
    run_stage(stage)
