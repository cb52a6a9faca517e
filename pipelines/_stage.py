"""What all stages share: the project, its settings, and errors on one line."""

import sys
from collections.abc import Callable

from advalign.errors import AdvalignError, hide_passwords, printable
from advalign.files import Project
from advalign.settings import Settings, load_settings


def run_stage(stage: Callable[[Project, Settings], None]) -> None:
    """Run a stage in the project around the working directory; a user's error ends with one line and its exit code."""
    hide_passwords()
    try:
        project = Project.find()
        stage(project, load_settings(project.root))
    except AdvalignError as error:
        print(printable(f"advalign: error: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
