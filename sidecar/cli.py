"""The command line: parses arguments, imports the room that a command needs, turns errors into exit codes."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    del arguments
    print("not there yet", file=sys.stderr)
    return 2
