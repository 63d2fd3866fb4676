"""BatchNormalization at inference: each channel is shifted, scaled and shifted again by constants."""

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import Floats
from sidecar.network.operators.scale import Scale
from sidecar.network.operators.shift import Shift

_SCALING = 10
"""Roundings of ``scale / sqrt(variance + epsilon)`` and of the product with it, at most: the sum, the root (which
halves what came before), the quotient, products; some twice, as where the factor is multiplied into weights before."""


def read_batch_normalization(application: Application) -> list[Shift | Scale]:
    """``(h - mean) / sqrt(variance + epsilon) * scale + added``, per channel.

    Kept as three steps, so that the magnitudes of what is added up are those of the served arithmetic in whatever order
    it shifts and scales. The factor is made of constants, and is so before it is rounded to a format of 16 bits.
    """
    flow = application.only(0)
    if application.flag("training_mode") or not application.attributes.get("spatial", 1):
        raise NodeError("is in training mode, or normalises each value by itself; expected inference per channel")
    if len(flow.shape) < 2:
        raise NodeError(f"has an operand of shape {flow.shape}; expected (n, channels, ...)")
    scale, added, mean, variance = (_channels(application, position, flow.shape[1]) for position in range(1, 5))
    epsilon = float(application.attributes.get("epsilon", 1e-5))
    spreads = variance + epsilon
    if not (spreads > 2.0**-100).all():
        raise NodeError(f"has a variance of {variance.min():g} with epsilon {epsilon:g}; expected a positive sum")
    factor = scale / np.sqrt(spreads)
    columns = (-1, *(1,) * (len(flow.shape) - 2))
    return [
        Shift(-mean.reshape(columns)),
        Scale(factor.reshape(columns), operations=_SCALING),
        Shift(added.reshape(columns)),
    ]


def _channels(application: Application, position: int, channels: int) -> Floats:
    values = application.floats(position)
    if values.shape != (channels,):
        raise NodeError(f"has operand {position} of shape {values.shape}; expected one number per channel, {channels}")
    return values
