"""What compiling found, as one HTML page that needs nothing besides: for those who decide and do not run commands.

The facts are those of `sidecar inspect`, word for word; added are what sampling says and inputs that violate.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from html import escape
from typing import Final

import numpy as np

from sidecar.bundle.coverage import Label
from sidecar.bundle.naming import Naming, naming_of
from sidecar.bundle.readable import value_text
from sidecar.bundle.summary import head_facts, legend, property_facts
from sidecar.compiler import sampling
from sidecar.compiler.pipeline import CompiledBundle
from sidecar.compiler.sampling import Sampled
from sidecar.tensors import Rows

SHOWN_COUNTEREXAMPLES: Final = 5
SHOWN_VALUES: Final = 32
"""Inputs of a counterexample that are written out."""

_STYLE: Final = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .2em .8em .2em 0 }
th { font-weight: 600; white-space: nowrap; width: 9em } td, pre { font: 13px/1.5 ui-monospace, monospace }
td { white-space: pre-wrap } h2 { margin-top: 2em } pre { white-space: pre-wrap }
.bar { display: flex; height: 1.2em; border: 1px solid #888 }
.key b { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; border: 1px solid #888 }
.key { margin: .3em 0 .8em -1em }
.silent { background: #3a7d44 } .violating { background: #b3261e } .open { background: #ddd }"""


def page(compiled: CompiledBundle, sampled: Sequence[Sampled]) -> str:
    """The page's text.

    Args:
        compiled: what compiling gave.
        sampled: what was seen at random points, per property; empty where none were drawn.
    """
    bundle = compiled.bundle
    naming, title = naming_of(bundle), f"Gate bundle of model {bundle.manifest.name}"
    body = [f"<h1>{escape(title)}</h1>", _table(head_facts(bundle))]
    body += [f"<p>Note: {escape(note)}</p>" for note in compiled.notes]
    for number, facts in enumerate(property_facts(bundle)):
        volume = np.mean([tree.volume for tree in bundle.coverage[number]], axis=0)
        found = compiled.counterexamples[number]
        body += [f"<h2>Property {escape(bundle.gates[number].property_id)}</h2>", _bar(volume.tolist())]
        body.append(_table([*facts, *_sampled(sampled[number : number + 1]), *_counterexamples(found, naming)]))
    body.append(f"<pre>{escape(legend(bundle))}</pre>")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""])


def _table(facts: Iterable[tuple[str, str]]) -> str:
    rows = [f"<tr><th>{escape(name)}</th><td>{escape(fact)}</td></tr>" for name, fact in facts]
    return "\n".join(["<table>", *rows, "</table>"])


def _bar(volume: Sequence[float]) -> str:
    """The volumes by label, drawn to scale, and which colour is which."""
    shares = [(label.name.lower(), volume[label]) for label in (Label.SILENT, Label.VIOLATING, Label.OPEN)]
    parts = [
        f'<div class="{name}" style="flex-grow:{share:.6f}" title="{name} {share:.4%}"></div>' for name, share in shares
    ]
    key = "".join(f'<b class="{name}"></b>{name} {share:.2%}' for name, share in shares)
    return f'<div class="bar">{"".join(parts)}</div><p class="key">{key}</p>'


def _sampled(found: Sequence[Sampled]) -> Iterator[tuple[str, str]]:
    for each in found:
        chosen = f"random points, seed {sampling.SEED}; interval of {sampling.CONFIDENCE:.0%} confidence"
        yield "truly violating", f"{sampling.text(each).strip()}\n{chosen}"


def _counterexamples(found: Rows, naming: Naming) -> Iterator[tuple[str, str]]:
    """Inputs at which onnxruntime's answer violates, a few of them."""
    yield "violated at", f"{len(found)} inputs that were found" if len(found) else "no input that was found"
    for row in found[:SHOWN_COUNTEREXAMPLES]:
        values = [
            f"{named.name} = {value_text(named, Fraction(value))}"
            for named, value in zip(naming.inputs[:SHOWN_VALUES], row.tolist()[:SHOWN_VALUES], strict=True)
        ]
        yield "", ", ".join([*values, *(["..."] if len(row) > SHOWN_VALUES else [])])
