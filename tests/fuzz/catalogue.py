"""All fuzz targets, by name, and the inputs that are kept for them."""

import importlib
from pathlib import Path

from tests.fuzz.target import Target

NAMES = ("request", "response", "stream", "exchange", "bundle", "vnnlib", "property_yaml", "settings")
CORPUS = Path(__file__).resolve().parent / "corpus"


def load(name: str) -> Target:
    """A target. Imported only when asked for: a fuzzer has to see the product being imported."""
    target: Target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    return target


def stored(name: str) -> list[Path]:
    """The kept inputs: what reached new code once, under its digest; what was once a finding, under a name."""
    return sorted((CORPUS / name).iterdir())
