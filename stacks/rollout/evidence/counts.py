"""Counts by kind: whether the requests were divided as asked, and whether two arms predict alike.

M. Lindon, A. Malek: Anytime-valid inference for multinomial count data. NeurIPS 35 (2022). For counts n of
requests that go to arms with known probabilities w, the Dirichlet mixture

    M = B(a + n) / (B(a) prod w_i^n_i)

is a martingale for as long as they are divided so (B is the multivariate beta function).
"""

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln, xlogy

Numbers = npt.NDArray[np.float64]

_CONCENTRATION = 100.0
"""The mixture's weight near the shares that were asked for: a mismatch that matters is a small one."""


def log_sample_ratio(counts: npt.ArrayLike, shares: npt.ArrayLike) -> Numbers:
    """The evidence that requests are not divided by `shares`, as log M; log(1/alpha) or more says so.

    Args:
        counts: the requests of each arm, along the last axis.
        shares: the share of each arm; they add up to 1 and none is 0.
    """
    n, w = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    prior = w * _CONCENTRATION
    return np.asarray(_log_beta(prior + n) - _log_beta(prior) - xlogy(n, w).sum(-1), np.float64)


def log_distributions_differ(
    candidate: npt.ArrayLike, stable: npt.ArrayLike, share: npt.ArrayLike
) -> Numbers:
    """The evidence that two arms' answers are distributed differently, as log M.

    While they are alike, an answer of any bin comes from the candidate with the candidate's share of the
    requests, so M is a product over the bins of the two-armed martingale above.

    Args:
        candidate: its number of answers in each bin, along the last axis.
        stable: those of the variant it is compared with.
        share: the candidate's share of the requests, between 0 and 1: as it was set, not as it turned out.
    """
    c, s = np.asarray(candidate, np.float64), np.asarray(stable, np.float64)
    w = np.asarray(share, np.float64)[..., None]
    a, b = w * _CONCENTRATION, (1 - w) * _CONCENTRATION
    each = betaln(a + c, b + s) - betaln(a, b) - xlogy(c, w) - xlogy(s, 1 - w)
    return np.asarray(each.sum(-1), np.float64)


def _log_beta(parameters: Numbers) -> Numbers:
    return np.asarray(gammaln(parameters).sum(-1) - gammaln(parameters.sum(-1)), np.float64)
