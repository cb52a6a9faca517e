"""Stage `stimuli`: freeze the stimulus set."""

from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.files import Project
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """data/clickme -> outputs/stimuli."""
    project.checkpoints.mkdir(parents=True, exist_ok=True)  # later stages depend on it, even if nothing is trained
    stimuli = freeze_stimuli(project, settings.stimuli, settings.seed)
    save_stimuli(project, stimuli)
    print(f"{len(stimuli)} stimuli, digest {stimuli.digest[:12]}")


if __name__ == "__main__":
    run_stage(stage)
