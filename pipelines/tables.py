"""Stage `tables` of experiments/robustsight: the paper's Tables 1 and 2, robust accuracy, errors under corruption."""

from advalign.analysis.corruptions import corrupted_models, corruption_heat_map, corruption_table
from advalign.analysis.drawing import save
from advalign.analysis.robustsight_figure import robust_accuracy_figure
from advalign.analysis.robustsight_tables import robustsight_tables, write_tables
from advalign.files import Project, replacing
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/evaluations -> outputs/comparison/: table1.csv, table2.csv, tables.md, corruptions.csv, figures/*.png."""
    figures, corrupted = project.comparison / "figures", corrupted_models(project, settings)
    save(robust_accuracy_figure(project, settings), figures / "robust_accuracy.png")
    save(corruption_heat_map(corrupted), figures / "corruptions.png")
    with replacing(project.comparison / "corruptions.csv") as temporary:
        corruption_table(corrupted, settings).to_csv(temporary, index=False, float_format="%.6g")
    print(write_tables(project.comparison, *robustsight_tables(project, settings)))


if __name__ == "__main__":
    run_stage(stage)
