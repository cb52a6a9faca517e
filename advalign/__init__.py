"""advalign: how tolerant is a vision model to adversarial perturbations, and do they fall where people look?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advalign.api import alignment, minimum_norm
    from advalign.handed import evaluate
    from advalign.models.classifier import Classifier

__all__ = ["alignment", "evaluate", "load", "minimum_norm"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what measures when it is first asked for: `import advalign` itself imports nothing."""
    if name in ("alignment", "minimum_norm"):
        from advalign import api

        return getattr(api, name)
    if name == "evaluate":
        from advalign.handed import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(source: str) -> "Classifier":
    """Load a trained classifier in evaluation mode: pixels in [0, 1], (N, 3, H, W) -> logits.

    Args:
        source: a checkpoint's directory, or a registered model: "models:/NAME@candidate", "models:/NAME/1".

    Raises:
        InputError: nothing loadable there, or its card names code that is not trusted (docs/own-models.md).
        CheckFailed: the registry's files are not those that were registered.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from advalign.models.checkpoints import load_checkpoint

    if not source.startswith("models:/"):
        return load_checkpoint(Path(source))[0]
    from advalign.files import Project
    from advalign.names import parse_reference
    from advalign.tracking.registry.registered import fetch, resolve
    from advalign.tracking.store import open_store, store_errors

    reference = parse_reference(source)
    store = open_store(Project.find())
    with store_errors(store.uri), TemporaryDirectory() as folder:
        return load_checkpoint(fetch(resolve(store, reference), Path(folder)))[0]
