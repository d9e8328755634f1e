"""Shares of a count, with an interval. It stands here because imports run one way, and every app has shares."""

import math

Z_95 = 1.959964


def wilson_interval(rate: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share of n independent cases (Wilson, 1927); (0, 1) for none."""
    if not n:
        return 0.0, 1.0
    centre = (rate + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + Z_95**2 / (4 * n**2)) / (1 + Z_95**2 / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)
