"""How far a runtime may be from the reference, by the type of its weights. `docs/checks/bounds.md` says why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunesmith.artifact import Precision

ROUNDOFF = {"float32": 2.0**-25, "float16": 2.0**-12, "bfloat16": 2.0**-9}  # relative, on average
LARGEST = 2.0  # of the some eighty differences that are looked at, the largest is about twice the usual one
LOGIT_SIZE = 16.0  # a likely token's logit stands about this far above the mean of the vocabulary
FLOAT32_FLOOR = 1e-3  # kernels add in another order; some hundred times what is seen on real models


@dataclass(frozen=True)
class QuantisedBound:
    """Mean KL in nats, and the share of positions whose likeliest token is the reference's."""

    kl: float
    agreement: float


QUANTISED = {"8bit": QuantisedBound(0.02, 0.95), "4bit": QuantisedBound(0.15, 0.85)}


def logprob_bound(precision: Precision, n_layers: int) -> float:
    """The largest difference of a log-probability that rounding explains, in nats.

    Each of the 2L + 1 additions to the residual stream carries an independent relative error of about u,
    so a logit of size z is off by about z u sqrt(2L + 1), and the largest of many by twice that.
    """
    return max(FLOAT32_FLOOR, LARGEST * LOGIT_SIZE * ROUNDOFF[precision] * math.sqrt(2 * n_layers + 1))
