"""Stage `maps`: trials of participants -> cleaning, agreement of every image, and how many participants are enough."""

from advalign.data.human_maps.make import make_human_maps
from advalign.files import Project
from advalign.settings import Settings
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """data/participants -> outputs/maps; without participants, the same files with nothing in them."""
    cleaning, summary = make_human_maps(project, settings.human_maps, settings.seed)
    if not cleaning["steps"]:
        print("no trials of participants in data/participants: nothing to do")
        return
    print(f"{'step':<18}{'before':>9}{'after':>9}{'dropped':>9}")
    for step in cleaning["steps"]:
        clicks = f"  {step['clicks_dropped']} clicks of trials that stay" if step["clicks_dropped"] else ""
        counts = "".join(f"{step[name]:>9}" for name in ("trials_before", "trials_after", "dropped"))
        print(f"{step['step']:<18}{counts}{clicks}")
    for one in cleaning["suspicious"]:
        told = "dropped" if one["dropped"] else "kept: see drop_outliers in params.yaml"
        print(f"suspicious: {one['participant']}, {one['trials']} trials, agreement {one['agreement']:.3f}, {told}")
    told = summary["measures"]["spearman"]
    values = ", ".join(f"{name} {told[name]['mean']:.4f}" for name in ("ceiling", "corrected", "floor"))
    print(f"{summary['images']} images, {summary['trials']} trials of {summary['participants']} participants: {values}")


if __name__ == "__main__":
    run_stage(stage)
