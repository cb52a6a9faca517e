"""Stage `tables` of experiments/robustsight: the paper's five tables, what its claims come to, figures and report."""

from advalign.analysis.robustsight.report import write_robustsight
from advalign.files import Project
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/evaluations -> outputs/comparison."""
    print(write_robustsight(project, settings))


if __name__ == "__main__":
    run_stage(stage)
