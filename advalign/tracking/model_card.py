"""The model card of a registered version: Markdown in its description, so that the MLflow UI explains the version.

What it was made from is written when it is registered; below a heading follows what its tags say of it by now.
"""

import json
from collections.abc import Mapping

from advalign.models.checkpoints import Card

EVALUATED = "## Evaluated"
DECISION = ".decision"  # tag `ALIAS.decision`: the promotion that is in force, as JSON
RUN = ".run_id"  # tag `PROTOCOL.run_id`: the evaluation's run
COLUMNS = {
    "PT": "perturbation_tolerance",
    "AA": "adversarial_human_alignment",
    "aligned - shuffled": "aligned_minus_shuffled",
    "multi-label": "multilabel_accuracy",
    "top-1": "top1_accuracy",
    "success": "attack_success_rate",
    "n": "n_valid",
}
"""Heading -> metric that a version carries as tag `PROTOCOL.METRIC`."""


def first_part(card: Card, tags: Mapping[str, str], run_id: str) -> str:
    """What a version was made from.

    Args:
        card: the checkpoint's.
        tags: lineage: git.commit, git.dirty, dvc.data.md5 where they are known.
        run_id: of its training.
    """
    size, decisions = card.preprocessing.input_size, ", ".join(card.decisions)
    dirty = " with uncommitted changes" if tags.get("git.dirty") == "True" else ""
    facts = {
        "architecture": f"`{card.architecture}` at {size} x {size}, {len(card.classes)} classes ({decisions})",
        "recipe": f"`{card.recipe}`, seed {card.seed}",
        "data": f"`{card.data_md5}` (DVC)" if card.data_md5 else "not tracked",
        "code": f"commit `{tags['git.commit']}`{dirty}" if "git.commit" in tags else "outside git",
        "training run": f"`{run_id}`",
        "weights": f"SHA-256 `{card.weights_sha256}`",
        "licence": card.license,
    }
    lines = [f"# {card.name}", "", *(f"- {name}: {value}" for name, value in facts.items()), "", "## Settings", ""]
    for section, values in card.settings.items():
        shown = values.items() if isinstance(values, Mapping) else [("value", values)]
        lines += [f"- {section}.{name}: `{value}`" for name, value in shown]
    reached = ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())
    lines += ["", f"Last epoch: {reached}" if reached else "No training metrics.", ""]
    loaders = f"`advalign.load` or `mlflow.pyfunc.load_model` (`models:/{card.name}@ALIAS`)"
    lines += [f"Input: pixels in [0, 1]; load with {loaders}."]
    return "\n".join(lines) + "\n"


def complete(description: str, tags: Mapping[str, str]) -> str:
    """A version's description, brought in line with what its tags say of evaluations and promotions."""
    head = description.partition(EVALUATED)[0].rstrip()
    return "\n".join([head, "", EVALUATED, "", *_evaluations(tags), *_decisions(tags)]) + "\n"


def evaluations(tags: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Protocol -> metric -> value, from a version's tags.

    >>> evaluations({"fmn.run_id": "f00", "fmn.n_valid": "12.0", "git.commit": "1a"})
    {'fmn': {'n_valid': 12.0}}
    """
    protocols = sorted(name.removesuffix(RUN) for name in tags if name.endswith(RUN))
    return {
        protocol: {
            metric: float(tags[f"{protocol}.{metric}"]) for metric in COLUMNS.values() if f"{protocol}.{metric}" in tags
        }
        for protocol in protocols
    }


def _evaluations(tags: Mapping[str, str]) -> list[str]:
    found = evaluations(tags)
    if not found:
        return ["Not yet."]
    lines = [f"| protocol | {' | '.join(COLUMNS)} | run |", "|---" * (len(COLUMNS) + 2) + "|"]
    for protocol, metrics in found.items():
        cells = [f"{metrics[metric]:.4g}" if metric in metrics else "-" for metric in COLUMNS.values()]
        lines.append(f"| {protocol} | {' | '.join(cells)} | `{tags[protocol + RUN]}` |")
    return lines


def _decisions(tags: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for name in sorted(name for name in tags if name.endswith(DECISION)):
        found = json.loads(tags[name])
        forced = f", forced: {found['reason']}" if found["forced"] else ""
        lines += ["", f"## {found['outcome'].capitalize()} as {found['alias']}", ""]
        lines += [
            f"By {found['who']} on {found['at']}{forced}.",
            "",
            "| gate | wanted | got | holds |",
            "|---|---|---|---|",
        ]
        for gate in found["gates"]:
            holds = "yes" if gate["holds"] else "**no**"
            lines.append(f"| {gate['gate']} | {gate['wanted']} | {gate['got']} | {holds} |")
    return lines
