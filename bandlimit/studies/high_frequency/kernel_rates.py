"""From the kernels of networks to how smooth they are.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", section 6 and figure 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bandlimit.models import classifier
from bandlimit.models.kernels import first_kernels, high_band_share, roughness
from bandlimit.statistics import student
from bandlimit.studies.high_frequency.columns import columns

Floats = NDArray[np.float64]


def kernels(files: Sequence[str]) -> list[torch.Tensor]:
    """Return the kernels of the first layer of models, outputs x inputs x height x width."""
    return [first_kernels(classifier.load(path).network).detach().clone() for path in files]


def smoothness(files: Sequence[str], experiments: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return how smooth the kernels of the first layer are, network by network and compared.

    A row for each network, and one for the difference of the adversarially trained network from the
    natural one, seed by seed.

    Args:
        files: models of each experiment: its network and the adversarially trained one, all seeds.
        experiments: what they stand for.
    """
    rows: list[dict[str, Any]] = []
    place = 0
    for e in experiments:
        found: dict[str, list[Floats]] = {}
        for name in [e["model"], *([e["robust"]] if e["robust"] else [])]:
            (network,) = (n for n in e["networks"] if n["name"] == name)
            weights = kernels(files[place : place + network["seeds"]])
            place += network["seeds"]
            # A mean over kernels for each seed: networks are the cases, kernels of one are not.
            found[name] = [
                np.array([float(torch.nanmean(measure(own))) for own in weights])
                for measure in (roughness, high_band_share)
            ]
            rows.append(
                {
                    **{
                        column: e[column] for column in ("dataset", "model", "document", "stand_in")
                    },
                    "network": name,
                    "training": "adversarial" if name == e["robust"] else "natural",
                    "seeds": network["seeds"],
                    "kernels": int(weights[0].shape[0] * weights[0].shape[1]),
                    **columns("roughness", student(found[name][0])),
                    **columns("high_band", student(found[name][1])),
                }
            )
        if e["robust"]:
            natural, robust = found[e["model"]], found[e["robust"]]
            pairs = min(len(natural[0]), len(robust[0]))
            rows.append(
                {
                    **{
                        column: e[column] for column in ("dataset", "model", "document", "stand_in")
                    },
                    "network": e["robust"],
                    "training": "adversarial less natural",
                    "seeds": pairs,
                    "kernels": rows[-1]["kernels"],
                    **columns("roughness", student(robust[0][:pairs] - natural[0][:pairs])),
                    **columns("high_band", student(robust[1][:pairs] - natural[1][:pairs])),
                }
            )
    return pd.DataFrame(rows)
