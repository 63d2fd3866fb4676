"""Histograms by model to which what was counted elsewhere can be added, bucket by bucket; the metrics library's own
take single values only.
"""

import bisect
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class ModelHistogram(Collector):
    """One histogram of seconds, by the label ``model``. May be used from any thread.

    Args:
        bounds: of the buckets, ascending; what is above the last has a bucket as well.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self.bounds: Final = tuple(bounds)
        self._lock = threading.Lock()
        self._counts: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        registry.register(self)

    def open(self, model: str) -> None:
        """Have a model's series exist."""
        with self._lock:
            self._open(model)

    def observe(self, model: str, seconds: float) -> None:
        """Count one value."""
        with self._lock:
            self._open(model)
            self._counts[model][bisect.bisect_left(self.bounds, seconds)] += 1
            self._seconds[model] += seconds

    def add(self, model: str, counts: Sequence[int], seconds: float) -> None:
        """Count values by bucket, one more of these than there are bounds; and their sum."""
        with self._lock:
            self._open(model)
            self._counts[model] = [old + new for old, new in zip(self._counts[model], counts, strict=True)]
            self._seconds[model] += seconds

    def describe(self) -> list[HistogramMetricFamily]:
        """For the metrics library: its names."""
        return [HistogramMetricFamily(self._name, self._text, labels=["model"])]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the metrics library."""
        family = HistogramMetricFamily(self._name, self._text, labels=["model"])
        labels = [*map(floatToGoString, self.bounds), "+Inf"]
        with self._lock:
            for model, counts in self._counts.items():
                buckets = list(zip(labels, itertools.accumulate(counts), strict=True))
                family.add_metric([model], buckets, self._seconds[model])
        yield family

    def _open(self, model: str) -> None:
        self._counts.setdefault(model, [0] * (len(self.bounds) + 1))
        self._seconds.setdefault(model, 0.0)
