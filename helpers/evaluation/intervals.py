"""95% intervals by bootstrap: whole groups (services) are drawn again, since their pairs resemble each other."""

import numpy as np

RESAMPLES = 2000


def resample_weights(n: int, seed: int, groups=None, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of n items is drawn in each resample: (resamples, n). With `groups`, whole groups are drawn."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"{n} items but {len(groups)} groups: give one group an item")
    _, member = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    count = member.max() + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, member]


def bootstrap_ci(values, seed: int = 0, groups=None) -> list[float]:
    """95% interval [low, high] of the mean of `values` (n,)."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("no values to resample: give at least one held-out pair")
    weights = resample_weights(len(values), seed, groups)
    means = weights @ values / weights.sum(axis=1)
    return [float(bound) for bound in np.percentile(means, [2.5, 97.5])]
