"""advalign: how tolerant is a vision model to adversarial perturbations, and do they fall where people look?"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advalign.models.classifier import Classifier

__version__ = "0.1.0"


def load(source: str) -> "Classifier":
    """Load a trained classifier in evaluation mode: pixels in [0, 1], (N, 3, H, W) -> logits.

    Args:
        source: a checkpoint's directory, or a registered model: "models:/NAME@candidate", "models:/NAME/1".

    Raises:
        InputError: nothing loadable there.
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
