"""The ``inputs`` and ``outputs`` sections of a property file: names and units for the values of a row.

Every value of a described tensor gets a name: an unnamed input could not be bounded, and an unnamed output
could not be ruled out as the best one. Names are distinct over the whole file.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import yaml

from sidecar.properties.lexer import is_name
from sidecar.properties.source import shown, suggestion
from sidecar.properties.vocabulary import Best, Feature, Range, Ranking, Score, Vocabulary, WireMap
from sidecar.properties.yaml_nodes import Value
from sidecar.tensors import ModelSignature, TensorSpec

_Tensors = dict[str, tuple[TensorSpec, int]]
"""By name: a tensor not described yet, and where its values start in the row."""


def read_vocabulary(inputs: Value, outputs: Value, signature: ModelSignature) -> Vocabulary:
    """The names that the file's expressions may use.

    Raises:
        InputError: a tensor that the model does not have or that is described twice; an input that is not
            described; not exactly one name for each value; more than one output with ``best``; a bad name.
    """
    reader = _Reader()
    features = reader.inputs(inputs, _starts(signature.inputs))
    ranking = reader.outputs(outputs, _starts(signature.outputs))
    return Vocabulary(features, reader.scores, ranking)


def _starts(specs: Sequence[TensorSpec]) -> _Tensors:
    starts: _Tensors = {}
    position = 0
    for spec in specs:
        starts[spec.name] = spec, position
        position += spec.row_size
    return starts


@dataclasses.dataclass
class _Reader:
    names: set[str] = dataclasses.field(default_factory=set)
    scores: dict[str, Score] = dataclasses.field(default_factory=dict)

    # -- inputs --------------------------------------------------------------------------------------------

    def inputs(self, section: Value, tensors: _Tensors) -> tuple[Feature, ...]:
        features: list[Feature] = []
        for item in section.items():
            entry = item.fields(["tensor", "features"])
            spec, start = _tensor(entry["tensor"], tensors)
            features.extend(self.features(entry["features"], spec, start))
        if tensors:
            raise section.error(f"the model's input {shown(next(iter(tensors)))} is not described; add it")
        return tuple(sorted(features, key=lambda feature: feature.position))

    def features(self, section: Value, spec: TensorSpec, start: int) -> list[Feature]:
        items = list(section.items())
        entries = [item.fields(["name"], ["index", "unit", "range", "wire"]) for item in items]
        _check_count(section, len(entries), spec)
        indices = _indices(section, [entry.get("index") for entry in entries], spec)
        return [
            Feature(
                name=self.name(entry["name"]),
                position=start + index,
                wire=_wire(entry.get("wire")),
                unit=entry["unit"].text() if "unit" in entry else "",
                range=_range(entry["range"]) if "range" in entry else None,
            )
            for entry, index in zip(entries, indices, strict=True)
        ]

    # -- outputs -------------------------------------------------------------------------------------------

    def outputs(self, section: Value, tensors: _Tensors) -> Ranking | None:
        ranking: Ranking | None = None
        for item in section.items():
            entry = item.fields(["tensor", "classes"], ["best"])
            spec, start = _tensor(entry["tensor"], tensors)
            names = self.classes(entry["classes"], spec, start)
            if "best" in entry:
                if ranking is not None:
                    raise entry["best"].error("another output has best already; only one can; compare scores instead")
                ranking = Ranking(entry["best"].choice(Best), names)
        return ranking

    def classes(self, section: Value, spec: TensorSpec, start: int) -> tuple[str, ...]:
        scores = [self.score(item, start + index) for index, item in enumerate(section.items())]
        _check_count(section, len(scores), spec)
        self.scores.update((score.name, score) for score in scores)
        return tuple(score.name for score in scores)

    def score(self, item: Value, position: int) -> Score:
        if isinstance(item.node, yaml.ScalarNode):
            return Score(self.name(item), position)
        entry = item.fields(["name"], ["unit", "wire"])
        unit = entry["unit"].text() if "unit" in entry else ""
        return Score(self.name(entry["name"]), position, _wire(entry.get("wire")), unit)

    # -- both ----------------------------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        name = value.scalar()
        if not is_name(name):
            raise value.error(f"{shown(name)} cannot be used as a name; use letters, digits and _, no keyword")
        if name in self.names:
            raise value.error(f"the name {shown(name)} is taken already; names differ over the whole file")
        self.names.add(name)
        return name


def _tensor(value: Value, tensors: _Tensors) -> tuple[TensorSpec, int]:
    """The named tensor, taken out of those that are left to describe."""
    name = value.scalar()
    if name not in tensors:
        raise value.error(f"the model has no such tensor left to describe: {shown(name)}; {suggestion(name, tensors)}")
    return tensors.pop(name)


def _check_count(section: Value, got: int, spec: TensorSpec) -> None:
    if got != spec.row_size:
        sizes = list(spec.row_shape)
        batch = len(sizes) > 1 and got * sizes[0] == spec.row_size
        raise section.error(
            f"{got} names for tensor {shown(spec.name)}, which has {spec.row_size} values in a row of shape {sizes}; "
            + ("name each value once" if not batch else f"if the {sizes[0]} counts rows, export a dynamic batch size")
        )


def _indices(section: Value, stated: Sequence[Value | None], spec: TensorSpec) -> list[int]:
    """Where in the tensor each feature stands: as stated, or in order where no index is."""
    given = [value for value in stated if value is not None]
    if not given:
        return list(range(spec.row_size))
    if len(given) < len(stated):
        raise section.error("some features have an index and some have none; give all of them one, or none")
    indices: list[int] = []
    for value in given:
        index = value.number()
        if index.denominator != 1 or not 0 <= index < spec.row_size or int(index) in indices:
            raise value.error(f"expected a whole number from 0 to {spec.row_size - 1} that no other feature has")
        indices.append(int(index))
    return indices


def _range(value: Value) -> Range:
    ends = [item.number() for item in value.items()]
    if len(ends) != 2 or ends[0] > ends[1]:
        got = ", ".join(item.scalar() for item in value.items())
        raise value.error(f"expected two numbers, the lower one first, as in [0, 150], got [{got}]")
    return Range(ends[0], ends[1])


def _wire(value: Value | None) -> WireMap:
    if value is None:
        return WireMap()
    entry = value.fields([], ["scale", "offset"])
    wire = WireMap(
        scale=entry["scale"].number() if "scale" in entry else Fraction(1),
        offset=entry["offset"].number() if "offset" in entry else Fraction(0),
    )
    if wire.scale == 0:
        raise entry["scale"].error("a scale of zero would lose the value; wire = scale * physical + offset")
    return wire
