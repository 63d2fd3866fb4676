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


def vocabulary_of(origin: str, content: bytes, signature: ModelSignature) -> Vocabulary | None:
    """The names that a property file gives to the values of a row; None for a kind of file that names none.

    Raises:
        InputError: the content is not understood.
    """
    return yaml_reader.vocabulary_of(origin, content, signature) if origin.endswith(yaml_reader.SUFFIXES) else None
