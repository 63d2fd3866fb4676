"""Property files of every kind, by the ending of their names."""

from pathlib import Path

from sidecar.errors import InputError
from sidecar.properties import vnnlib, yaml_reader
from sidecar.properties.values import PropertyFile
from sidecar.properties.vocabulary import Vocabulary
from sidecar.tensors import ModelSignature


def read_properties(path: Path, signature: ModelSignature) -> PropertyFile:
    """What a property file says about a model of this signature.

    Raises:
        InputError: of no known kind, or as the readers of :mod:`vnnlib` and :mod:`yaml_reader` say.
    """
    if path.name.endswith(vnnlib.SUFFIXES):
        return vnnlib.read_vnnlib(path, signature)
    if path.name.endswith(yaml_reader.SUFFIXES):
        return yaml_reader.read_yaml(path, signature)
    known = ", ".join((*yaml_reader.SUFFIXES, *vnnlib.SUFFIXES))
    raise InputError(f"{path}: a property file's name ends in one of {known}; rename it, or give another file")


def properties_in(origin: str, content: bytes, signature: ModelSignature) -> PropertyFile:
    """What the content of a property file says, as a bundle keeps it; ``origin`` is the file's name.

    Raises:
        InputError: as :func:`read_properties`.
    """
    path = Path(origin)
    if origin.endswith(vnnlib.SUFFIXES):
        return vnnlib.properties_in(path, content, signature)
    if origin.endswith(yaml_reader.SUFFIXES):
        return yaml_reader.properties_in(path, content, signature)
    raise InputError(f"{path}: no property file that is understood, by its name; compile the bundle again")


def vocabulary_of(origin: str, content: bytes, signature: ModelSignature) -> Vocabulary | None:
    """The names that a property file gives to the values of a row; None for a kind of file that names none.

    Raises:
        InputError: the content is not understood.
    """
    return yaml_reader.vocabulary_of(origin, content, signature) if origin.endswith(yaml_reader.SUFFIXES) else None
