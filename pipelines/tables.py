"""Stage `tables` of experiments/robustsight: Tables 1 and 2 of the paper, and robust accuracy at every eps."""

from advalign.analysis.drawing import save
from advalign.analysis.robustsight_figure import robust_accuracy_figure
from advalign.analysis.robustsight_tables import robustsight_tables, write_tables
from advalign.files import Project
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/evaluations -> the tables and figures/robust_accuracy.png in outputs/comparison."""
    save(robust_accuracy_figure(project, settings), project.comparison / "figures" / "robust_accuracy.png")
    print(write_tables(project.comparison, *robustsight_tables(project, settings)))


if __name__ == "__main__":
    run_stage(stage)
