"""Tables and twins made up for the tests of figures."""

import numpy as np
import pandas as pd

from advalign.analysis.table import STANDARD

TWINS = [
    ("test_resnet.baseline", "test_resnet.harmonized"),
    ("test_resnet.baseline", "test_resnet_l2_eps1"),
    ("test_resnet.baseline", "test_resnet_l2_eps0.5.combined"),
    ("test_vit.baseline", "test_vit.harmonized"),
]


def small():
    rows = [
        ("test_resnet.baseline", 0.49, 0.45, 0.943, "cnn"),
        ("test_resnet.harmonized", 0.46, 0.77, 0.943, "harmonized"),
        ("test_resnet_l2_eps1", 2.09, 0.78, 0.935, "robust"),
        ("test_resnet_l2_eps2", 2.64, 0.78, 0.850, "robust"),
        ("test_resnet_l2_eps0.5.combined", 1.64, 0.81, 0.899, "robust"),
        ("test_vit.baseline", 0.62, 0.38, 0.900, "vit"),
        ("test_vit.harmonized", 0.58, 0.66, 0.895, "harmonized"),
    ]
    table = pd.DataFrame(rows, columns=["model", "pt", "aa", "multilabel_accuracy", "group"])
    recipe = table["model"].str.extract("(combined)$", expand=False).fillna("any other")
    return table.assign(big_data=0, pt_sem=0.04, aa_sem=0.02, protocol="fmn-fast", recipe=recipe)


def large(n=351):
    generator = np.random.default_rng(0)
    accuracy = generator.uniform(70, 91, n)
    table = pd.DataFrame({"model": [f"net_{place}" for place in range(n)], "multilabel_accuracy": accuracy})
    table["pt"] = 1 + (accuracy - 70) ** 2 / 200 + generator.uniform(0, 0.3, n)
    table["aa"] = 0.2 - (accuracy - 70) ** 2 / 2000 + generator.normal(0, 0.02, n)
    table["group"] = np.resize(STANDARD, n)
    return table.assign(big_data=0, pt_sem=0.03, aa_sem=0.01)


def pair(metric="pt", twin="test_resnet.harmonized", **changes):
    entry = {"baseline": "test_resnet.baseline", "twin": twin, "metric": metric, "n": 40, "protocol": "fmn-fast"}
    numbers = {
        "baseline_mean": 0.5,
        "baseline_sem": 0.02,
        "twin_mean": 0.7,
        "twin_sem": 0.03,
        "p_holm": 1e-5,
        "d_z": 0.8,
        "ceiling": None,
    }
    return {**entry, **numbers, **changes}
