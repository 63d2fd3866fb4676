"""Goes at every claim that the search makes: `make attack`.

    python -m tests.attack [--samples N] [--simulated N] [--seconds S] [--planted N] [--all | --only NAME ...]

Prints three tables: claims attacked through onnxruntime; claims about each arithmetic that a bundle can declare,
attacked in that arithmetic, simulated, and for comparison what is claimed of float32 in coarser ones; networks with
planted counterexamples. Exit status 1 where a claim falls.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from sidecar.bundle.coverage import Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.compiled import compiled_step
from sidecar.compiler.search import SearchLimits
from sidecar.demo.driving import MODEL_PATH, PROPERTIES_PATH
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Network
from sidecar.properties.reader import read_properties
from tests.attack.answering import Answering
from tests.attack.arithmetics import SIMULATED, simulated
from tests.attack.attacks import Found, attack
from tests.attack.claims import Claim, claimed
from tests.attack.planted import Plan, plant, tried
from tests.benchmarks.public_sets import acas_xu, data_folder

CHOSEN: Final = ("5_7 prop_2", "2_1 prop_2", "3_3 prop_2", "1_7 prop_3", "1_1 prop_5", "1_9 prop_7", "2_9 prop_8")
"""Most silent, most violating, proved everywhere, violating everywhere, most of the domain."""

KINDS: Final = ((Label.SILENT, True), (Label.VIOLATING, False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 where a claim falls."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Attacks every claim of the search.")
    parser.add_argument("--samples", type=int, default=1_000_000, help="random rows for each claim, besides the rest")
    parser.add_argument("--simulated", type=int, default=20_000, help="the same in simulated arithmetic")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each search")
    parser.add_argument("--planted", type=int, default=4, help="networks for each place and depth")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all 186 ACAS Xu instances, not a choice of them")
    which.add_argument("--only", nargs="+", default=CHOSEN, metavar="NAME", help="ACAS Xu instances, as '5_7 prop_2'")
    parser.add_argument("--no-public", action="store_true", help="without the public networks")
    given = parser.parse_args(arguments)
    compiled_step()  # loading it is no search's time
    limits = SearchLimits(time_limit_seconds=given.seconds)
    began, unsound = time.monotonic(), 0
    print(f"Claims of the search ({given.seconds:g} s each); {given.samples:,} random rows for each, and what follows")
    _head("through")
    claims = []
    for claim in _claims(None if given.all else given.only, given.no_public, limits):
        unsound += _attacked(claim, given.samples)
        claims.append(claim)
    print(f"\nClaims about each arithmetic, {given.simulated:,} random rows each, in that arithmetic, simulated")
    _head("arithmetic")
    for arithmetic in SIMULATED:
        declared = claims
        if arithmetic is not Arithmetic.IEEE32:
            declared = list(_claims(None if given.all else given.only, given.no_public, limits, arithmetic))
        for claim in declared:
            unsound += _attacked(claim, given.simulated, arithmetic)
    print("   claimed of ieee32 alone, so rows may fall; a sidecar calls that a breach:")
    for arithmetic in SIMULATED:
        if arithmetic is not Arithmetic.IEEE32:
            _attacked(claims[0], given.simulated, arithmetic)
    unsound += _planted(given.planted, limits, given.samples)
    print(f"\n{unsound} unsound claims, in {time.monotonic() - began:.0f} s")
    return 1 if unsound else 0


def _claims(
    only: Sequence[str] | None,
    no_public: bool,
    limits: SearchLimits,
    arithmetic: Arithmetic = Arithmetic.IEEE32,
) -> Iterator[Claim]:
    model = read_model(MODEL_PATH)
    for stated in read_properties(PROPERTIES_PATH, model.signature).properties:
        yield from claimed(f"demo {stated.trace.property_id}", model, stated, limits, arithmetic)
    if no_public:
        return
    if not (data_folder() / "acasxu").is_dir():
        print(f"   NOT RUN: ACAS Xu; no public data at GATE_DATA ({data_folder()})")
        return
    for each in acas_xu():
        if only is None or each.name in only:
            model, properties = each.read()
            for stated in properties:
                yield from claimed(each.name, model, stated, limits, arithmetic)


def _head(how: str) -> None:
    columns = f"{'leaves':>9} {'claimed':<10}{'share':>8}{'rows':>13}{'nearest':>11}{'unsound':>9}{'time':>9}"
    print(f"   {'claim':<36}{how:<13}{columns}")


def _attacked(claim: Claim, count: int, how: Arithmetic | None = None) -> int:
    """Attack both kinds of leaves, through onnxruntime or in an arithmetic, and print a line each; how many fall."""
    fallen, through = 0, "onnxruntime" if how is None else how.value
    claimed_leaves = [(claim.leaves(label), label, silent) for label, silent in KINDS]
    if not any(len(leaves) for leaves, _, _ in claimed_leaves):
        print(f"   {claim.name:<36}{through:<13}{'nothing claimed in that time':>35}")
    for leaves, label, silent in claimed_leaves:
        began = time.monotonic()
        if not len(leaves):
            continue
        answering = Answering(claim.model)
        ask = answering if how is None else simulated(_dense(claim), how, seed=0)
        found = attack(claim, leaves, ask, answering.precision, count, silent=silent)
        fallen += bool(found.fallen)
        _line(claim, through, len(leaves), label, found, time.monotonic() - began)
    return fallen


def _dense(claim: Claim) -> Network:
    if not isinstance(claim.model.network, Network):
        raise TypeError(f"{claim.name}: only dense networks are simulated")
    return claim.model.network


def _line(claim: Claim, how: str, leaves: int, label: Label, found: Found, seconds: float) -> None:
    fallen = f"{found.fallen or 'none':>9}"
    print(
        f"   {claim.name:<36}{how:<13}{leaves:>9,} {label.name.lower():<10}{claim.share(label):>8.2%}{found.rows:>13,}"
        f"{found.nearest:>11.2g}"
        f"{fallen}{seconds:>7.1f} s",
        flush=True,
    )
    for row in found.unsound[:2]:
        print(f"      {row.tolist()}")


def _planted(networks: int, limits: SearchLimits, samples: int) -> int:
    print(
        f"\nPlanted counterexamples: {networks} networks each; {limits.time_limit_seconds:g} s for verdict and map each"
    )
    head = f"{'inputs':>6}{'steepness':>10}{'depth':>8}{'verdicts':>32}{'labels there':>32}"
    print(f"   {head}{'sampled':>9}{'unsound':>9}")
    fallen = 0
    for inputs, steepness, depth in PLACES:
        outcomes = [
            tried(plant(Plan(inputs, steepness, depth, seed)), limits, samples) for seed in range(1, networks + 1)
        ]
        unsound = sum(each.unsound for each in outcomes)
        fallen += unsound
        verdicts = _counted([each.verdict.value for each in outcomes])
        labels = _counted([each.label.name.lower() for each in outcomes])
        hit = sum(each.hit for each in outcomes)
        place = f"{inputs:>6}{steepness:>10g}{depth:>8g}"
        print(f"   {place}{verdicts:>32}{labels:>32}{hit:>9}{unsound or 'none':>9}", flush=True)
    return fallen


PLACES: Final = (
    (2, 2.0**3, 1e-2),
    (2, 2.0**13, 1e-3),
    (3, 2.0**7, 1e-3),
    (5, 2.0**3, 1e-1),
    (5, 2.0**7, 1e-2),
    (5, 2.0**10, 1e-3),
    (5, 2.0**5, 1e-6),
    (10, 2.0**5, 1e-2),
)
"""Inputs, steepness, depth: from a wide dent to one of few float32 values, and one as deep as rounding."""


def _counted(words: list[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


if __name__ == "__main__":
    sys.exit(main())
