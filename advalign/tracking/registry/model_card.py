"""The model card of a registered version: Markdown in its description, so that the MLflow UI explains the version.

The origin of the version is written at registration. The part below a heading is renewed from the version's tags.
"""

from collections.abc import Mapping
from typing import Any

from advalign.errors import InputError, shown
from advalign.files import MAIN
from advalign.models.checkpoints import Card
from advalign.rows import NORMS, Descriptor
from advalign.strict_files import parse_json
from advalign.tracking.lineage import COPIED
from advalign.vocabulary import UNITS, in_norm, norm_measured

EVALUATED = "## Evaluated"
DECISION = ".decision"  # tag `ALIAS.decision`: the promotion in force, as JSON
ROLLBACK = ".rollback"  # tag `ALIAS.rollback`: the rollback that returned the alias to the version
RUN = ".run_id"  # tag `PROTOCOL.run_id`: the evaluation's run
RESULT = ".result_sha256"  # tag `PROTOCOL.result_sha256`: digest of the evaluation's summary
LONGEST = 5000  # characters of a description that every database accepts
COLUMNS = (
    "pt", "aa", "aligned_minus_shuffled", "multilabel_accuracy", "top1_accuracy", "attack_success_rate",
    "starts_agree", "n_valid",
)  # fmt: skip
"""Columns of the table of evaluations: metrics by their short names in l2."""
NOTED = {one.name: one for norm in NORMS for one in (in_norm(short, norm) for short in COLUMNS)}
"""Metrics that a version carries as tags `PROTOCOL.NAME`, by their long names."""


def first_part(card: Card, tags: Mapping[str, str], run_id: str) -> str:
    """The part of a model card on the version's origin.

    Args:
        card: the checkpoint's.
        tags: lineage: git.commit, git.dirty, dvc.data.md5, advalign.experiment, where known.
        run_id: of the training.
    """
    size, decisions = card.preprocessing.input_size, ", ".join(card.decisions)
    dirty = " with uncommitted changes" if tags.get("git.dirty") == "True" else ""
    facts = {
        "architecture": f"`{card.architecture}` at {size} x {size}, {len(card.classes)} classes ({decisions})",
        "recipe": f"`{card.recipe}`, seed {card.seed}",
        "data": f"`{card.data_md5}` (DVC)" if card.data_md5 else "not tracked",
        "code": f"commit `{tags['git.commit']}`{dirty}" if "git.commit" in tags else "outside git",
        "experiment": tags.get("advalign.experiment", MAIN),
        "training run": f"`{run_id}`",
        "weights": f"SHA-256 `{card.weights_sha256}`",
        "licence": card.license,
    }
    lines = [f"# {card.name}", "", *(f"- {name}: {value}" for name, value in facts.items()), "", "## Settings", ""]
    for section, values in card.settings.items():
        parts = values.items() if isinstance(values, Mapping) else [("value", values)]
        lines += [f"- {section}.{name}: `{value}`" for name, value in parts]
    reached = ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())
    lines += ["", f"Last epoch: {reached}" if reached else "No training metrics.", ""]
    loaders = f"`advalign.load` or `mlflow.pyfunc.load_model` (`models:/{card.name}@ALIAS`)"
    lines += [f"Input: pixels in [0, 1]; load with {loaders}."]
    return "\n".join(lines) + "\n"


def complete(description: str, tags: Mapping[str, str]) -> str:
    """A version's description, with the evaluations and promotions in its tags."""
    head = description.partition(EVALUATED)[0].rstrip()
    card = "\n".join([head, "", EVALUATED, "", *_evaluations(tags), *_decisions(tags)]) + "\n"
    if len(card) <= LONGEST:
        return card
    cut = "\n\n(Cut here: the rest is in the tags.)\n"
    return card[: LONGEST - len(cut)].rpartition("\n")[0] + cut


def evaluations(tags: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Protocol -> metric -> value, from a version's tags.

    >>> evaluations({"fmn.run_id": "f00", "fmn.n_valid": "12.0", "git.commit": "1a"})
    {'fmn': {'n_valid': 12.0}}
    """
    protocols = sorted(name.removesuffix(RUN) for name in tags if name.endswith(RUN))
    return {
        protocol: {name: value for name in NOTED if (value := number(tags.get(f"{protocol}.{name}"))) is not None}
        for protocol in protocols
    }


def logged(metrics: Mapping[str, float], metric: Descriptor) -> float | None:
    """A metric's value in a run; advalign 0.1 logged it under the long name."""
    return metrics.get(metric.short, metrics.get(metric.name))


def number(text: str | None) -> float | None:
    """The value of a metric's tag; None where the tag is missing or is no number."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _evaluations(tags: Mapping[str, str]) -> list[str]:
    found = evaluations(tags)
    if not found:
        return ["Not yet."]
    headings = " | ".join(in_norm(short, "l2").label for short in COLUMNS)
    lines = [f"| protocol | {headings} | run |", "|---" * (len(COLUMNS) + 2) + "|"]
    for protocol, metrics in found.items():
        norm = norm_measured(metrics) or "l2"
        values = (metrics.get(in_norm(short, norm).name) for short in COLUMNS)
        cells = ["-" if value is None else f"{value:.4g}" for value in values]
        named = protocol if norm == "l2" else f"{protocol} ({UNITS[norm]})"
        lines.append(f"| {named} | {' | '.join(cells)} | `{tags[protocol + RUN]}` |")
    return lines


def _decisions(tags: Mapping[str, str]) -> list[str]:
    """Promotions and returns of an alias to the version, by alias."""
    lines: list[str] = []
    for name in sorted(name for name in tags if name.endswith((DECISION, ROLLBACK))):
        try:
            lines += _decision(parse_json(tags[name], name), promoted=name.endswith(DECISION))
        except (InputError, KeyError, TypeError):
            lines += ["", f"## Tag {shown(name)}", "", "It is not what advalign wrote: somebody changed it."]
    return lines


def _decision(found: Mapping[str, Any], promoted: bool) -> list[str]:
    title = f"Promoted as {found['alias']}" if promoted else f"Returned to {found['alias']}"
    why = f", {'forced: ' if found['forced'] else ''}{found['reason']}" if found["reason"] else ""
    lines = ["", f"## {title}", "", f"By {found['who']} on {found['at']}{why}.", ""]
    if COPIED in found:
        lines += [f"Copied: it speaks of {found[COPIED]}, and numbers other versions as that store does.", ""]
    lines += ["| gate | wanted | got | holds |", "|---|---|---|---|"] if found["gates"] else []
    for gate in found["gates"]:
        holds = "yes" if gate["holds"] else "**no**"
        lines.append(f"| {gate['gate']} | {gate['wanted']} | {gate['got']} | {holds} |")
    return lines
