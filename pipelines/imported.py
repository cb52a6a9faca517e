"""Stage `imported` of an experiment whose data everybody brings in: says how to, while there is none."""

from advalign.files import Project, write_text
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """data/ -> outputs/imported.txt, which the other stages wait for; it is not made again once it is there."""
    project.need_data(project.data / "classes.yaml")
    write_text(project.root / "outputs" / "imported.txt", "data/ is there\n")


if __name__ == "__main__":
    run_stage(stage)
