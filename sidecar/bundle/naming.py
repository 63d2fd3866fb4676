"""What people call the values of a row, and in which units they think of them.

A bundle's gates speak wire units and positions. The property file that it was compiled from, kept inside, has names
and units for them; where there is none that has, a value is called after its tensor. For reading only: no decision
depends on it.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

from sidecar.bundle.values import Bundle, PropertySource
from sidecar.errors import InputError
from sidecar.properties.reader import vocabulary_of
from sidecar.properties.vocabulary import Feature, Score, Vocabulary
from sidecar.tensors import ModelSignature, TensorSpec

Named: TypeAlias = Feature | Score


@dataclasses.dataclass(frozen=True)
class Naming:
    """Names and units for all values of a row.

    Args:
        inputs, outputs: one for each value, in the row's order.
        origin: the property file that they come from; None where tensors gave the names, in wire units.
    """

    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    origin: str | None = None


def naming_of(bundle: Bundle) -> Naming:
    """The names in a bundle's property files."""
    return naming_in(bundle.sources, bundle.manifest.signature)


def naming_in(sources: Iterable[PropertySource], signature: ModelSignature) -> Naming:
    """The names in the first of some property files that has names which are understood, else the tensors'."""
    for source in sources:
        try:
            vocabulary = vocabulary_of(source.origin, source.content, signature)
        except InputError:
            continue
        if vocabulary is not None:
            return _named(vocabulary, signature, source.origin)
    return wire_naming(signature)


def wire_naming(signature: ModelSignature) -> Naming:
    """Each value called after its tensor, in wire units."""
    return Naming(
        inputs=tuple(Feature(name, position) for position, name in enumerate(value_names(signature.inputs))),
        outputs=tuple(Score(name, position) for position, name in enumerate(value_names(signature.outputs))),
    )


def _named(vocabulary: Vocabulary, signature: ModelSignature, origin: str) -> Naming:
    """Property files describe all inputs, and those outputs that they need."""
    scores = {score.position: score for score in vocabulary.scores.values()}
    unnamed = wire_naming(signature).outputs
    return Naming(
        inputs=vocabulary.features,
        outputs=tuple(scores.get(position, name) for position, name in enumerate(unnamed)),
        origin=origin,
    )


def value_names(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """A name for each value of a row: the tensor's name with the value's index, if it has any."""
    return tuple(name for spec in specs for name in _names(spec))


def _names(spec: TensorSpec) -> Iterator[str]:
    for index in itertools.product(*map(range, spec.row_shape)):
        yield f"{spec.name}[{','.join(map(str, index))}]" if index else spec.name


def physical_interval(named: Named, lower: Fraction, upper: Fraction) -> tuple[Fraction, Fraction]:
    """A closed interval of wire values in physical units, lower end first even where the scale is negative."""
    ends = named.wire.to_physical(lower), named.wire.to_physical(upper)
    return min(ends), max(ends)
