"""Alignment training: cross-entropy plus a term that pulls saliency onto object masks (Kannappan 2025, section 3.4).

    advalign train aligned --model resnet18_cifar    # a network that ends in a 1x1 map needs less stride

Published: accuracy .921 and .887, IoU .423 and .387 (Kannappan 2025, Table 4), with masks from a model's own saliency.
The controls are settings: `masks: shuffled` and `masks: centre`, which say nothing of where the image's object is.
With `removal` above 0 the decision must also stay when the surroundings are removed.
"""

from advalign.recipes._aligned import OnMasks


class Aligned(OnMasks):
    """L = CE + beta * saliency term + removal * removal term."""
