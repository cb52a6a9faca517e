"""Stage `compare`: zoo table, statistics, figures and report."""

from advalign.analysis.comparison import compare
from advalign.files import Project
from advalign.settings import Settings
from advalign.workflows.links import tracking_links
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/evaluations -> outputs/comparison."""
    table, statistics = compare(project, settings, tracking=tracking_links(project))
    print(f"{len(table)} models compared under {statistics['protocol']}")


if __name__ == "__main__":
    run_stage(stage)
