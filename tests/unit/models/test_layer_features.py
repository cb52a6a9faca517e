"""Features of a layer: which ones, as a vector per image, of bare networks and of those in a classifier."""

import pytest
import torch
from torch import nn

from advalign.errors import InapplicableError
from advalign.models.layer_features import LayerFeatures
from advalign.models.zoo import create_classifier

torch.set_num_threads(1)
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def features(classifier, layer=None, pixels=PIXELS):
    with torch.no_grad(), LayerFeatures(classifier, layer) as watched:
        logits = classifier.eval()(pixels)
    return watched.values, logits


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [("test_resnet", {}), ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 1}), ("mobilenetv3_small_050", {}),
     ("torchvision:resnet18", {})],
)  # fmt: skip
def test_penultimate_features_are_what_the_last_layer_reads(architecture, arguments):
    classifier = create_classifier(architecture, 5, 32, seed=0, arguments=arguments)
    found, logits = features(classifier)
    last = [module for module in classifier.network.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(last(found), logits)


def test_a_feature_map_and_tokens_are_averaged():
    classifier = create_classifier("test_resnet", 5, 32, seed=0)
    seen = []
    classifier.network.layer2.register_forward_hook(lambda *given: seen.append(given[2]))
    found, _ = features(classifier, "layer2")
    torch.testing.assert_close(found, seen[0].mean((2, 3)))
    classifier = create_classifier("vit_tiny_patch16_224", 5, 32, seed=0, arguments={"patch_size": 8, "depth": 1})
    classifier.network.blocks[0].register_forward_hook(lambda *given: seen.append(given[2]))
    found, _ = features(classifier, "blocks.0")
    assert seen[1].shape[1] == 17
    torch.testing.assert_close(found, seen[1].mean(1))


def test_nothing_is_watched_afterwards():
    classifier = create_classifier("test_resnet", 5, 32, seed=0).eval()
    with LayerFeatures(classifier) as watched:
        classifier(PIXELS)
    kept = watched.values
    classifier(PIXELS[:1])
    assert watched.values is kept
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in classifier.modules())


class Wordy(nn.Module):
    def forward(self, pixels):
        return {"logits": pixels.mean((2, 3))}


@pytest.mark.parametrize(
    ("network", "layer", "says"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, 32), nn.Flatten()), None, "Sequential does not end in a linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), "fc", "has no layer 'fc': it has 0, 1"),
        (nn.Sequential(Wordy()), "0", "layer '0' of Sequential gives no features"),
    ],
)
def test_what_has_no_such_features_is_refused_in_one_line(network, layer, says):
    with pytest.raises(InapplicableError) as caught:
        features(network, layer)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
