"""VNN-LIB 1.0 and 2.0: which of their files are read, and what they mean here.

**The flip.** A VNN-LIB file describes the *unsafe* set: the inputs and outputs for which all its assertions
hold, the counterexamples that a verifier would look for ("sat" means that one exists). A property states
the opposite: for inputs in its domain, the answer must *not* be in the unsafe set. This reader turns the
one into the other, and no other module knows of it. Inequalities there are mostly closed (``Y_1 <= Y_0``), so
the requirement's literals are strict (``y1 - y0 > 0``): a tie violates.

**Domain.** Conditions on inputs alone are the domain, conditions that mention outputs are the requirement's.
An ``or`` may mix both, each alternative with inputs of its own; alternatives are then gathered by their
domain, and each distinct requirement becomes a property: ``prop`` if it is the only one, else ``prop.1``,
``prop.2`` and so on in the file's order. Strict bounds on inputs are read as closed ones: wider, hence safe.

What each version understands stands in :mod:`vnnlib_1` and :mod:`vnnlib_2`; all else is refused.
"""

from pathlib import Path
from typing import Final

from sidecar.errors import InputError
from sidecar.gates.values import Action, Mode, Norm, Region, Requirement
from sidecar.numerics import DEFAULT_MARGIN
from sidecar.properties import vnnlib_1, vnnlib_2
from sidecar.properties.source import Complaint, Source, decode, read_content
from sidecar.properties.values import Property, PropertyFile, Traceability
from sidecar.properties.vnnlib_unsafe import guards
from sidecar.tensors import ModelSignature

MAX_FILE_BYTES: Final = 4 << 20
"""Decompressed size; a file about 3072 inputs takes 400 kB."""

SUFFIXES: Final = (".vnnlib", ".vnnlib.gz")


def read_vnnlib(path: Path, signature: ModelSignature) -> PropertyFile:
    """The properties of one VNN-LIB file, each with the defaults: project, enforce, nearest in L2.

    Args:
        path: ends in ``.vnnlib`` or ``.vnnlib.gz``; the rest of its name becomes the property's id.
        signature: the model's; the file must declare exactly its inputs and outputs.

    Raises:
        InputError: unreadable, not understood, or describing no guardable property; says where.
    """
    return properties_in(path, read_content(path, MAX_FILE_BYTES), signature)


def properties_in(path: Path, content: bytes, signature: ModelSignature) -> PropertyFile:
    """The properties in a file's (decompressed) content; else as :func:`read_vnnlib`."""
    source = decode(path, content)
    stem = path.name.removesuffix(".gz").removesuffix(".vnnlib")
    if not stem:
        raise InputError(f"{path}: the file's name without .vnnlib becomes the property's id, and nothing is left")
    found = _guards(source, signature)
    ids = [stem] if len(found) == 1 else [f"{stem}.{number}" for number in range(1, len(found) + 1)]
    properties = tuple(_property(name, *parts) for name, parts in zip(ids, found, strict=True))
    return PropertyFile(path.name, content, model_name=None, batch_axis=None, properties=properties)


def _property(name: str, domain: tuple[Region, ...], requirement: Requirement) -> Property:
    return Property(
        trace=Traceability(name),
        domain=domain,
        requirement=requirement,
        action=Action.PROJECT,
        margin=DEFAULT_MARGIN,
        norm=Norm.L2,
        mode=Mode.ENFORCE,
        fallback=None,
    )


def _guards(source: Source, signature: ModelSignature) -> list[tuple[tuple[Region, ...], Requirement]]:
    version = vnnlib_2 if vnnlib_2.begins(source) else vnnlib_1
    unsafe = version.unsafe_set(source, signature)
    try:
        return guards(unsafe.formula, unsafe.names)
    except Complaint as complaint:
        place = 0 if complaint.feature is None else unsafe.places[complaint.feature]
        raise source.error(place, str(complaint)) from None
