"""Maps of the participants of an image, as the settings `human_maps` say."""

from torch import Tensor

from advalign.data.human_maps.blocks import ImageTrials
from advalign.settings import HumanMapSettings
from advalign.tensors.click_maps import Blur, click_maps, resized
from advalign.tensors.heatmaps import min_max_scale


def blur_of(settings: HumanMapSettings) -> Blur:
    """The kernel; a Gaussian without a sigma has that of Fel et al. 2022: sqrt(window)."""
    sigma = settings.sigma if settings.sigma is not None else settings.window**0.5
    return Blur(settings.kernel, settings.window, sigma)


def participant_maps(image: ImageTrials, settings: HumanMapSettings, device: str = "cpu") -> Tensor:
    """Blurred click counts of every participant, centre-cropped as images are: (N, side, side) float32 >= 0.

    A human map is their mean; agreement is computed on such maps.
    """
    kept = round(settings.resize * settings.crop)
    side = (settings.side, settings.side)
    return click_maps(image.clicks, image.size, settings.resize, blur_of(settings), (kept, kept), side, device)


def full_map(image: ImageTrials, settings: HumanMapSettings, device: str = "cpu") -> Tensor:
    """The human map of the whole image at the image's own size: (height, width) float32, min-max scaled to [0, 1]."""
    whole = resized(*image.size, settings.resize)
    maps = click_maps(
        image.clicks, image.size, settings.resize, blur_of(settings), whole, (image.size[1], image.size[0]), device
    )
    return min_max_scale(maps.mean(0, keepdim=True))[0]
