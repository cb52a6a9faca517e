"""Stage `gates` of experiments/robustsight: what a promotion of each trained model would decide; none is promoted."""

import json
import sys

from advalign.files import Project, write_text
from advalign.settings import Settings
from advalign.tracking.registry.promotion import check
from advalign.tracking.store import open_store
from pipelines._stage import run_stage


def stage(project: Project, settings: Settings) -> None:
    """Registered versions and their evaluations -> outputs/comparison/gates.json, by the policy of an alias."""
    (alias,) = sys.argv[1:]
    store, told = open_store(project), {}
    for model in settings.trainings:
        decision = check(project, store, model, alias=alias)
        failed = [f"{gate.gate}: {gate.wanted}, got {gate.got}" for gate in decision.gates if not gate.holds]
        told[model] = {"gates": len(decision.gates), "failed": failed}
        print(f"{alias}: {model} {decision.outcome}, {len(failed)} of {len(decision.gates)} gates fail")
        print("".join(f"  {line}\n" for line in failed), end="")
    write_text(project.comparison / "gates.json", json.dumps({alias: told}, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(stage)
