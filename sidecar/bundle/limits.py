"""How large things in a bundle may be. Acceptance checks each before memory is allocated for it.

The limits protect the process that reads a bundle, so they are far above what compiling gives and still
small against a server's memory.
"""

from typing import Final

MAX_BUNDLE_BYTES: Final = 256 * 2**20
"""The whole file. Coverage dominates."""

MAX_COVERAGE_BYTES: Final = 96 * 2**20
"""The coverage map: 8 bytes a node, so room for some ten million nodes, which take ten times as much in memory."""

MAX_MANIFEST_BYTES: Final = 4 * 2**20
MAX_GATES_BYTES: Final = 64 * 2**20
"""The two sections in JSON."""

MAX_JSON_ITEMS: Final = 2**21
"""Values in one JSON section; a parsed value takes up to some two hundred bytes."""

MAX_RATIONAL_DIGITS: Final = 1024
"""Decimal digits of a numerator or denominator. The exact sum of any float64 values needs 632."""

MAX_ROW_VALUES: Final = 2**18
"""Values in an input or an output row; a picture of 224 x 224 in three colours has 150 528."""

MAX_GATES: Final = 4096
MAX_REGIONS: Final = 1024
"""Regions of all gates together. What overlaps is found pair by pair, exactly: about 7 s at this limit."""

MAX_NAME_CHARACTERS: Final = 256
MAX_TEXT_CHARACTERS: Final = 2**16
MAX_OPTIONS: Final = 256
MAX_VERSIONS: Final = 256
MAX_TENSORS: Final = 256
MAX_DIMENSIONS: Final = 16
MAX_SOURCES: Final = 4096

MAX_COVERAGE_DEPTH: Final = 1024
"""Splits between a tree's root and a leaf; labelling one row walks that far."""
