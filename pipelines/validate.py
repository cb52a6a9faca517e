"""Stage `validate`: Great Expectations over stimuli, maps and labels; fails when an expectation fails."""

from advalign.data.expectations import validate, write_validation
from advalign.errors import CheckFailed
from advalign.files import Project
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs/stimuli and data/imagenet -> outputs/validation.json."""
    validation = validate(project, settings)  # without evaluations: they run later
    write_validation(project, validation)
    for failure in validation.failures:
        print(f"{failure.table}.{failure.column}: {failure.expectation}: {', '.join(failure.told)}")
    if not validation.success:
        raise CheckFailed(f"{len(validation.failures)} expectations failed: `advalign data validate` shows them")
    print(f"{sum(validation.checked.values())} expectations hold")


if __name__ == "__main__":
    run_stage(stage)
