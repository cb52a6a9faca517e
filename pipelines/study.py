"""Stage `study` of experiments/neural: guided models with all their controls, and a verdict for each study."""

from advalign.files import Project
from advalign.settings import Settings
from advalign.workflows.guidance import run_guidance
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/responses -> outputs/guidance: models, evaluations, and a folder with the verdict of each study."""
    for name, asked in settings.guidance.items():
        for one in run_guidance(project, settings, name, asked):
            print(f"{name}, {one.norm}:", *(f"  {sentence}" for sentence in one.sentences), sep="\n")


if __name__ == "__main__":
    run_stage(stage)
