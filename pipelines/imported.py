"""Stage `imported` of an experiment whose users import the data: says how to while data is missing."""

from advalign.files import Project, write_text
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """data/ -> outputs/imported.txt, which the other stages depend on; an existing file is kept."""
    project.need_data(project.data / "classes.yaml")
    write_text(project.root / "outputs" / "imported.txt", "data/ is there\n")


if __name__ == "__main__":
    run_stage(stage)
