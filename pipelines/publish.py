"""Stage `publish`: bring the MLflow store in line with the results on disk."""

import json

from advalign.errors import CheckFailed
from advalign.files import Project, write_text
from advalign.settings import Settings
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_all
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """outputs -> MLflow runs and registered versions, listed in outputs/published.json."""
    published = publish_all(project, open_store(project))
    listing = {"runs_and_versions": published.present + len(published.created)}
    write_text(project.root / "outputs" / "published.json", json.dumps(listing, indent=1) + "\n")
    if published.left_out:
        raise CheckFailed(f"{len(published.left_out)} results were not published: {'; '.join(published.left_out)}")
    print(f"{len(published.created)} runs and versions created, {published.present} were there")


if __name__ == "__main__":
    run_stage(stage)
