"""How often a series was above a level, counted by clusters: neighbours in a queue are above it together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def clusters(above: Sequence[NDArray[np.bool_]]) -> float:
    """Of runs, each in order of arrival: which values are above the level.

    The number of those times the extremal index, which is 1 over the mean size of a cluster, and is told by the gaps
    between them: most are between neighbours in a cluster, few and long ones between clusters (the intervals estimator:
    Ferro and Segers, "Inference for clusters of extreme values", J. R. Statist. Soc. B 65(2), 2003, equations 5 and 6).
    """
    begins = np.cumsum([0, *map(len, above)])
    places = np.concatenate([np.flatnonzero(run) + begin for run, begin in zip(above, begins, strict=False)])
    gaps = np.diff(places).astype(np.float64)
    if not len(gaps):
        return float(len(places))
    if gaps.max() <= 2:
        top, bottom = gaps.sum() ** 2, (gaps**2).sum()
    else:
        top, bottom = (gaps - 1).sum() ** 2, ((gaps - 1) * (gaps - 2)).sum()
    return len(places) * min(1.0, float(2 * top / (len(gaps) * bottom)))
