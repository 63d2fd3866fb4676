"""The larger public sets under a budget for each instance."""

import collections
import time
from collections.abc import Sequence
from typing import Final

from sidecar.compiler.rounding import declared_arithmetic
from sidecar.compiler.verdict import Verdict
from sidecar.compiler.verify import verify
from sidecar.compiler.verify_report import overall
from sidecar.errors import InputError
from tests.benchmarks.public_sets import Instance, data_folder, other_set

SETS: Final = ("mnist_fc", "collins_rul_cnn", "oval21", "sri_resnet_a")

_NOT_READ: Final = "not read"


def run(names: Sequence[str], budget_seconds: float, most: int | None) -> None:
    """Print the section.

    Args:
        names: of ``SETS``.
        budget_seconds: wall time for the search of each instance.
        most: instances of each set, spread over it evenly; None for all.
    """
    print(f"\nLarger sets, {budget_seconds:g} s for each instance (no verdicts are published with them)")
    columns = (*Verdict, _NOT_READ)
    print(f"   {'set':<18}{'instances':>10}" + "".join(f"{column:>10}" for column in columns) + f"{'wall':>10}")
    for name in names:
        if not (data_folder() / name).is_dir():
            print(f"   {name:<18} NOT RUN: not in {data_folder()}")
            continue
        instances = other_set(name)
        step = 1 if most is None else max(1, -(-len(instances) // most))
        began, counts, why = time.monotonic(), collections.Counter[str](), dict[str, None]()
        for each in instances[::step]:
            counts[_verdict(each, budget_seconds, why)] += 1
        wall = time.monotonic() - began
        shown = "".join(f"{counts[column]:>10}" for column in columns)
        print(f"   {name:<18}{f'{counts.total()}/{len(instances)}':>10}{shown}{wall:>8.1f} s", flush=True)
        for reason in why:
            print(f"      {reason}")


def _verdict(each: Instance, budget_seconds: float, why: dict[str, None]) -> str:
    try:
        model, properties = each.read()
    except InputError as error:
        why[str(error).partition(": ")[2].partition(";")[0]] = None
        return _NOT_READ
    return overall(
        verify(model, properties, declared_arithmetic(model.signature), budget_seconds, None, lambda _: None)
    )
