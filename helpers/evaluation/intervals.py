"""95% intervals: by bootstrap over held-out pairs, by Student's t over seeds, and either as text.

In the bootstrap whole groups (services) are drawn again, since the pairs of a group resemble each other.
"""

import math

import numpy as np

RESAMPLES = 2000
# 97.5% quantile of Student's t for n values
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def resample_weights(n: int, seed: int, groups=None, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of n items is drawn in each resample: (resamples, n). With `groups`, whole groups are drawn."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"{n} items but {len(groups)} groups: give one group an item")
    _, member = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    count = member.max() + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, member]


def bootstrap_ci(values, seed: int = 0, groups=None) -> list[float]:
    """95% percentile interval [low, high] of the mean of `values` (n,). Raises ValueError where there are none."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("no values to resample: give at least one held-out pair")
    weights = resample_weights(len(values), seed, groups)
    return percentile_interval(weights @ values / weights.sum(axis=1))


def percentile_interval(resampled: np.ndarray) -> list[float]:
    """[low, high] that holds the middle 95% of the resampled values."""
    return [float(bound) for bound in np.percentile(resampled, [2.5, 97.5])]


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean over seeds and its 95% interval by Student's t: (mean, low, high). One value has no interval: NaN."""
    mean, n = float(np.mean(values)), len(values)
    if n > max(STUDENT):
        raise ValueError(f"{n} seeds: the table of Student's t ends at {max(STUDENT)}; add the quantile for {n}")
    half = STUDENT[n] * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return mean, mean - half, mean + half


def interval_text(value: float, interval, form: str, scale: float = 1, unit: str = "") -> str:
    """'67% (61% to 73%)': a value and its `unit`, its interval (low, high), all times `scale` in the format `form`."""
    middle, low, high = (f"{scale * number:{form}}" for number in (value, *interval))
    return f"{middle}{unit} ({low} to {high})"


def seeds_text(values: list[float], form: str, scale: float = 1) -> str:
    """The mean over seeds with its interval; fewer than three seeds tell no interval: then each value."""
    if len(values) < 3:
        return ", ".join(f"{scale * value:{form}}" for value in values)
    mean, low, high = (scale * value for value in mean_and_interval(values))
    if scale == 100:  # Student's t knows nothing of the ends of a percentage
        low, high = max(low, 0), min(high, 100)
    return f"{mean:{form}}" if high - low < 1e-9 else interval_text(mean, (low, high), form)
