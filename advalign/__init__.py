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
    """
    from pathlib import Path

    from advalign.models.checkpoints import load_checkpoint

    if not source.startswith("models:/"):
        return load_checkpoint(Path(source))[0]
    from advalign.files import Project
    from advalign.names import parse_reference
    from advalign.tracking.registered import download
    from advalign.tracking.store import open_store

    uri = parse_reference(source).uri
    open_store(Project.find())
    return load_checkpoint(download(uri))[0]
