"""What commands' arguments have in common: how a command is added, and kinds of values."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from sidecar.settings import kinds
from sidecar.settings.flags import argument

if TYPE_CHECKING:
    from sidecar.bundle.values import Arithmetic


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of ours; the usage stands in --help."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What commands are added to."""


def command(
    commands: Commands,
    name: str,
    what: str,
    run: Callable[[argparse.Namespace], int] | None,
) -> Parser:
    """A new command's parser; ``what`` it does is told by help. None runs where it has commands of its own."""
    parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    if run is not None:
        parser.set_defaults(command=run)
    return parser


def add_model_and_properties(parser: Parser) -> None:
    """What is proved of what: ``model`` and ``property``, a list."""
    parser.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="the model, .onnx or .onnx.gz")
    parser.add_argument(
        "--property",
        type=Path,
        required=True,
        action="append",
        metavar="P.yaml",
        help="what must hold: a .yaml or .vnnlib file (a .vnnlib.gz too); repeatable",
    )


def add_time_limit(parser: Parser, what: str) -> None:
    """``time_limit``, seconds, for all of ``what``."""
    parser.add_argument("--time-limit", type=argument(kinds.seconds), default=60.0, metavar="TIME", help=what)


def add_workers(parser: Parser, what: str) -> None:
    """``workers``; None for as many as there are processors to use. ``what`` they are."""
    parser.add_argument(
        "--workers", type=positive, metavar="N", help=f"{what} (default: as many as there are processors to use)"
    )


def add_arithmetic(parser: Parser) -> None:
    """``arithmetic``: a name, or None."""
    parser.add_argument(
        "--arithmetic",
        choices=("ieee32", "ieee64", "tf32", "bf16", "fp16", "ieee16"),
        help="what the served model computes in, which the proofs cover besides real arithmetic (default: its tensors' "
        "IEEE format); tf32, bf16, fp16: operands in that format and sums in float32, as accelerators do",
    )


def declared(arguments: argparse.Namespace) -> "Arithmetic | None":
    """What ``add_arithmetic`` asked for."""
    from sidecar.bundle.values import Arithmetic

    return None if arguments.arithmetic is None else Arithmetic(arguments.arithmetic)


def add_samples(parser: Parser) -> None:
    """``samples``."""
    parser.add_argument(
        "--samples",
        type=count,
        default=100_000,
        metavar="N",
        help="random points per property at which to see whether the model violates it (default 100000; 0: none)",
    )


def positive(text: str) -> int:
    """A whole number above zero."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return value


def share(text: str) -> float:
    """A number above zero, at most one."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write a number above 0, at most 1")
    return value


def count(text: str) -> int:
    """A whole number, zero among them."""
    return 0 if text == "0" else positive(text)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers above zero, with commas between them."""
    return tuple(positive(part) for part in text.split(","))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))
