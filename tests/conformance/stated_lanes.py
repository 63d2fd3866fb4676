"""What each case is stated to be to the native transport: answered natively, or handed over to Python and why.

Stated as data, in ``stated_lanes.tsv``, so that a case that quietly stops being answered natively is noticed. The word
is that of the metric ``gate_native_handed_over_total``.
"""

import pathlib
from typing import Final

NATIVE: Final = "native"

PATH: Final = pathlib.Path(__file__).with_suffix(".tsv")


def stated_lanes() -> dict[str, str]:
    """The lane of each case, by its name."""
    return dict(line.split("\t") for line in PATH.read_text().splitlines())
