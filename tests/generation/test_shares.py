import pytest
from scipy.stats import binomtest

from generation.shares import wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (7, 20), (199, 400)])
def test_wilsons_interval_is_that_of_scipy(hits, n):
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_of_nothing_nothing_is_known():
    assert wilson_interval(0.0, 0) == (0.0, 1.0)
