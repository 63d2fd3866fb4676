"""Linear bounds of a ReLU on an interval, and how a linear form passes backward through one.

For ``l <= z <= u`` and any ``0 <= a <= 1``:  ``a z <= max(z, 0) <= s z + t``  with the chord through both ends. Source:
Zhang et al., "Efficient Neural Network Robustness Certification with General Activation Functions" (CROWN, 2018), and
Singh et al., "An Abstract Domain for Certifying Neural Networks" (DeepPoly, 2019).

Rounding. The chord only has to lie above both ends, ``s l + t >= 0`` and ``s u + t >= u``, since ReLU is convex. So the
slope may be any number near ``u / (u - l)``, and ``t`` is the larger of ``-s l`` and ``(1 - s) u`` (``1 - s`` rounds
relatively, once), inflated. Signs of ``l`` and ``u`` decide exactly, without rounding.
"""

import dataclasses
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.rounding import INFLATE, TINY

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxation:
    """Relaxed ReLUs of one layer, for many boxes; each float64 (box, neuron).

    Args:
        lower_slope: ``a`` above; 0 or 1.
        upper_slope, upper_shift: ``s`` and ``t`` above.
    """

    lower_slope: Floats
    upper_slope: Floats
    upper_shift: Floats

    def backward(self, form: Floats, box: Indices) -> tuple[Floats, Floats]:
        """A lower bound of ``form . relu(z)``, form (row, neuron), each row about one box, as linear form in ``z``.

        Returns:
            Coefficients (row, neuron), whose rounding the caller charges, and a constant (row,), rounded safely.
        """
        zero = np.zeros(form.shape[1])  # several times faster here than a scalar
        rising, falling = np.maximum(form, zero), np.minimum(form, zero)
        passed = rising * self.lower_slope.take(box, axis=0) + falling * self.upper_slope.take(box, axis=0)
        return passed, np.einsum("rj,rj->r", falling, self.upper_shift.take(box, axis=0))


def relax(lower: Floats, upper: Floats) -> Relaxation:
    """Relaxations for pre-activations in ``[lower, upper]``, each (box, neuron); not finite where those are not."""
    active, inactive = lower >= 0.0, upper <= 0.0
    unstable = ~(active | inactive)
    with np.errstate(invalid="ignore", divide="ignore"):
        chord = upper / (upper - lower)
    slope = np.where(unstable, chord, active.astype(np.float64))
    shift = np.maximum(-slope * lower, (1.0 - slope) * upper) * INFLATE + TINY
    rising = np.where(unstable, upper > -lower, active).astype(np.float64)
    return Relaxation(rising, slope, np.where(unstable, shift, 0.0))
