"""The command line: parses arguments, imports the room that a command needs, turns errors into exit codes.

Exit status: 0 done, 1 the answer is no, 2 used wrongly or unreadable input, 3 failed, 4 unknown (verify),
130 interrupted.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.cli import compiling, reading, releasing, serving
from sidecar.cli.arguments import Parser
from sidecar.errors import BundleError, CommandError

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # gRPC's C core would put lines of its own beside our messages; whoever wants them sets the variable.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except CommandError as error:
        return _complain(str(error), error.exit_code)
    except BundleError as error:
        return _complain(f"{error.message} ({error.reason})", 2)
    except BrokenPipeError:  # the reader of our output has enough, as in ``sidecar inspect B | head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _complain(f"{error.filename or 'input/output'}: {error.strerror or error}", 3)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _complain(message: str, status: int) -> int:
    print(f"sidecar: {message}", file=sys.stderr)
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="sidecar",
        description="Keeps a deployed neural network to its safety properties: compile a gate bundle, then serve.",
        epilog="'sidecar COMMAND --help' tells the options of a command; 'sidecar demo' shows the whole loop.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for each in (compiling, reading, releasing, serving):
        each.add(commands)
    return parser
