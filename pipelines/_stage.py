"""What all stages share: the project, its settings, and errors on one line."""

from collections.abc import Callable

from advalign.ending import prepare, run_to_end
from advalign.errors import hide_passwords
from advalign.files import Project
from advalign.settings import Settings, load_settings


def run_stage(stage: Callable[[Project, Settings], None]) -> None:
    """Run a stage in the project around the working directory, and exit (`run_to_end`)."""
    prepare()
    hide_passwords()

    def run() -> None:
        project = Project.find()
        stage(project, load_settings(project.root))

    run_to_end(run)
