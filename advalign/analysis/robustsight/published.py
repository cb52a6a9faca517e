"""What Kannappan 2025 prints of its models: registry/published/kannappan2025.yaml."""

from pathlib import Path

from pydantic import Field

from advalign.errors import InputError
from advalign.strict_files import read_yaml
from advalign.strict_settings import Strict, parse

Share = Field(None, ge=0, le=1)
Quotient = Field(None, ge=0, description="error divided by that of a reference model, which the paper does not name")


class PublishedValues(Strict):
    """What the paper prints of one model; None where it prints nothing."""

    clean_accuracy: float | None = Share
    fgsm_accuracy: float | None = Share
    pgd_accuracy: float | None = Share
    attack_success: float | None = Field(None, ge=0, le=1, description="of PGD: (clean - pgd) / clean")
    ece: float | None = Share
    parameters: float | None = Field(None, gt=0, description="millions")
    hours: float | None = Field(None, gt=0, description="of training")
    iou: float | None = Share
    iou_sd: float | None = Field(None, ge=0, description="standard deviation over images")
    saliency_term: float | None = Field(None, ge=0, description="the alignment loss at the end of training")
    mce: float | None = Quotient
    mce_noise: float | None = Quotient
    mce_blur: float | None = Quotient
    mce_weather: float | None = Quotient
    mce_digital: float | None = Quotient


class Publication(Strict):
    """All of registry/published/kannappan2025.yaml."""

    source: str
    models: dict[str, PublishedValues] = Field(min_length=1)


def read_publication(path: Path) -> Publication:
    """Read the published values.

    Raises:
        InputError: missing, broken YAML, an unknown key, or a value out of range.
    """
    try:
        return parse(Publication, read_yaml(path), str(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it has the published values; restore it from git") from None
