"""The model card of a registered version: Markdown in its description, so that the MLflow UI explains the version.

The origin of the version is written at registration. The part below a heading is renewed from the version's tags.
"""

from collections.abc import Mapping
from typing import Any

from advalign.analysis.certified_figure import trained_with_noise
from advalign.errors import InputError, shown
from advalign.files import MAIN
from advalign.models.checkpoints import Card
from advalign.rows import NORMS
from advalign.strict_files import parse_json
from advalign.tracking.lineage import COPIED
from advalign.vocabulary import SEARCHED, UNITS, describe, in_norm, norm_measured

EVALUATED = "## Evaluated"
DECISION = ".decision"  # tag `ALIAS.decision`: the promotion in force, as JSON
ROLLBACK = ".rollback"  # tag `ALIAS.rollback`: the rollback that returned the alias to the version
RUN = ".run_id"  # tag `PROTOCOL.run_id`: the evaluation's run
RESULT = ".result_sha256"  # tag `PROTOCOL.result_sha256`: digest of the evaluation's summary
LONGEST = 5000  # characters of a description that every database accepts
HEADLINES = (
    "pt", "aa", "aligned_minus_shuffled", "multilabel_accuracy", "top1_accuracy", "ece", "nll", "brier",
    "attack_success_rate", "starts_agree", "n_valid",
)  # fmt: skip
"""Numbers that a card shows, by their short names in l2; and every other one with an interval (`headlines`)."""
OF_SEARCHES = {in_norm(one.name, norm).name for norm in NORMS for one in SEARCHED}
ORDER = [in_norm(short, norm).name for short in HEADLINES for norm in NORMS]
LOW, HIGH = "_ci_low", "_ci_high"
RADIUS = "average_certified_radius"  # evaluations under the probe `smoothing` have it


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


def headlines(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers that a card shows of an evaluation, with the ends of their intervals, by their long names.

    Of a search for minimum norms these are those of `HEADLINES`; of any other probe, one's own included, also every
    number that has an interval.

    Args:
        metrics: as a run has them: by short names; advalign 0.1 logged them under long ones.

    >>> list(headlines({"robust_accuracy": 0.5, "robust_accuracy_ci_low": 0.4, "ece": 0.1, "samples_per_image": 9.0}))
    ['robust_accuracy', 'robust_accuracy_ci_low', 'expected_calibration_error']
    """
    found = {_described(name)[0]: value for name, value in metrics.items()}
    shown = [name for name in found if name in ORDER or (f"{name}{LOW}" in found and name not in OF_SEARCHES)]
    return {key: found[key] for name in shown for key in (name, f"{name}{LOW}", f"{name}{HIGH}") if key in found}


def evaluations(tags: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Protocol -> metric -> value, from a version's tags.

    >>> evaluations({"fmn.run_id": "f00", "fmn.n_valid": "12.0", "git.commit": "1a"})
    {'fmn': {'n_valid': 12.0}}
    """
    found: dict[str, dict[str, float]] = {name.removesuffix(RUN): {} for name in sorted(tags) if name.endswith(RUN)}
    for tag in sorted(tags):
        protocol = max((one for one in found if tag.startswith(f"{one}.")), key=len, default=None)
        value = number(tags[tag])
        if protocol is not None and value is not None and not tag.endswith((RUN, RESULT)):
            found[protocol][tag.removeprefix(f"{protocol}.")] = value
    return found


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
    lines = ["| protocol | measured, with 95 % intervals | run |", "|---|---|---|"]
    for protocol, metrics in found.items():
        norm = norm_measured(metrics) or "l2"
        named = protocol if norm == "l2" else f"{protocol} ({UNITS[norm]})"
        lines.append(f"| {named} | {'; '.join(_numbers(metrics)) or '-'} | `{tags[protocol + RUN]}` |")
    certified = [protocol for protocol, metrics in found.items() if RADIUS in metrics]
    if certified and not trained_with_noise(tags.get("advalign.recipe", "")):
        told = f"the certificates under {', '.join(certified)} are valid, and smaller than could be"
        lines += ["", f"Not trained with noise: {told}."]
    return lines


def _numbers(metrics: Mapping[str, float]) -> list[str]:
    """Headline numbers with their intervals, as a card says them."""
    told = [name for name in metrics if not name.endswith((LOW, HIGH))]
    lines = []
    for name in sorted(told, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        low, high = metrics.get(f"{name}{LOW}"), metrics.get(f"{name}{HIGH}")
        interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
        lines.append(f"{_described(name)[1]}: {metrics[name]:.4g}{interval}")
    return lines


def _described(name: str) -> tuple[str, str]:
    """A metric's long name and its label; its name as it is, where nothing describes it."""
    try:
        found = describe(name)
    except InputError:
        return name, name
    return found.name, found.label


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
