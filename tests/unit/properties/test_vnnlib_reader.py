import gzip
import pathlib
from collections.abc import Callable
from fractions import Fraction

import pytest

from sidecar.errors import InputError
from sidecar.gates.values import Action, Literal, Mode, Norm
from sidecar.properties.reader import read_properties
from sidecar.properties.values import PropertyFile
from sidecar.tensors import ModelSignature

Read = Callable[..., PropertyFile]

DECLARATIONS = """\
; a comment (with brackets
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(declare-const Y_2 Real)
"""
BOX = """\
(assert (<= X_0 0.5)) (assert (>= X_0 -0.5))
(assert (and (<= X_1 1e0) (<= 0 X_1)))
"""

ONE = Fraction(1)


def y(coefficients: dict[int, int], offset: int = 0, strict: bool = True) -> Literal:
    return Literal(tuple((i, Fraction(c)) for i, c in coefficients.items()), (), Fraction(offset), strict)


def test_unsafe_set_becomes_the_strict_opposite(read: Read) -> None:
    file = read(f"{DECLARATIONS}{BOX}(assert (<= Y_0 Y_1))\n(assert (>= Y_2 3))", "prop_2.vnnlib")
    (stated,) = file.properties
    assert stated.requirement.clauses == ((y({0: 1, 1: -1}), y({2: -1}, 3)),)
    (region,) = stated.domain
    assert region.box.lower == (Fraction(-1, 2), Fraction(0))
    assert region.box.upper == (Fraction(1, 2), Fraction(1))
    assert region.cuts == ()


def test_a_strict_unsafe_set_gives_closed_literals(read: Read) -> None:
    (stated,) = read(f"{DECLARATIONS}{BOX}(assert (< Y_0 Y_1)) (assert (> Y_2 3))", "p.vnnlib").properties
    assert stated.requirement.clauses == ((y({0: 1, 1: -1}, strict=False), y({2: -1}, 3, strict=False)),)


def test_properties_have_the_defaults_and_the_name_of_the_file(read: Read) -> None:
    text = f"{DECLARATIONS}{BOX}(assert (<= Y_0 Y_1))"
    file = read(text, "img-eps0.02.vnnlib")
    (stated,) = file.properties
    assert stated.trace.property_id == "img-eps0.02"
    assert (stated.action, stated.mode, stated.norm) == (Action.PROJECT, Mode.ENFORCE, Norm.L2)
    assert (stated.margin, stated.fallback) == (0, None)
    assert (file.origin, file.source) == ("img-eps0.02.vnnlib", text.encode())
    assert (file.model_name, file.batch_axis) == (None, None)


def test_compressed_files_read_the_same(tmp_path: pathlib.Path, read: Read, signature: ModelSignature) -> None:
    text = f"{DECLARATIONS}{BOX}(assert (<= Y_0 Y_1))"
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    compressed = read_properties(tmp_path / "p.vnnlib.gz", signature)
    assert compressed.properties == read(text, "p.vnnlib").properties
    assert compressed.source == text.encode()
    assert compressed.origin == "p.vnnlib.gz"


def test_disjunction_of_outputs_becomes_one_clause_each(read: Read) -> None:
    condition = "(or (and (<= Y_0 Y_1) (<= Y_0 Y_2)) (and (<= Y_1 Y_2)))"
    (stated,) = read(f"{DECLARATIONS}{BOX}(assert {condition})", "p.vnnlib").properties
    assert stated.requirement.clauses == ((y({0: 1, 1: -1}), y({0: 1, 2: -1})), (y({1: 1, 2: -1}),))


def test_union_of_input_boxes_is_one_property_with_several_regions(read: Read) -> None:
    boxes = (
        "(assert (or (and (<= X_0 1) (>= X_0 0) (<= X_1 1) (>= X_1 0))"
        "            (and (<= X_0 3) (>= X_0 2) (<= X_1 1) (>= X_1 0))))"
    )
    (stated,) = read(f"{DECLARATIONS}{boxes}(assert (<= Y_0 Y_1))", "p.vnnlib").properties
    assert [(region.box.lower[0], region.box.upper[0]) for region in stated.domain] == [(0, 1), (2, 3)]


def test_alternatives_with_inputs_of_their_own_become_properties_of_their_own(read: Read) -> None:
    mixed = (
        "(assert (or (and (<= X_0 0) (<= Y_0 0))"
        "            (and (>= X_0 0) (<= Y_1 0))"
        "            (and (<= X_0 0) (<= Y_2 0))))"
    )
    first, second = read(f"{DECLARATIONS}{BOX}{mixed}", "p.vnnlib").properties
    assert (first.trace.property_id, second.trace.property_id) == ("p.1", "p.2")
    assert first.domain[0].box.upper[0] == 0
    assert first.requirement.clauses == ((y({0: 1}),), (y({2: 1}),))
    assert second.domain[0].box.lower[0] == 0
    assert second.requirement.clauses == ((y({1: 1}),),)


def test_alternatives_with_the_same_requirement_share_a_property(read: Read) -> None:
    mixed = "(assert (or (and (<= X_0 0) (<= Y_0 0)) (and (>= X_0 0.2) (<= Y_0 0))))"
    (stated,) = read(f"{DECLARATIONS}{BOX}{mixed}", "p.vnnlib").properties
    assert len(stated.domain) == 2


def test_alternatives_outside_the_box_are_dropped(read: Read) -> None:
    mixed = "(assert (or (and (<= X_0 -7) (<= Y_0 0)) (and (>= X_0 0) (<= Y_1 0))))"
    (stated,) = read(f"{DECLARATIONS}{BOX}{mixed}", "p.vnnlib").properties
    assert stated.trace.property_id == "p"
    assert stated.requirement.clauses == ((y({1: 1}),),)


def test_linear_terms_and_conditions_that_mention_both_sides(read: Read) -> None:
    condition = "(<= (+ (* 2 Y_0 0.5) (- X_0) 1) (- Y_1 X_1 (* -3 2)))"
    (stated,) = read(f"{DECLARATIONS}{BOX}(assert {condition})", "p.vnnlib").properties
    # unsafe: y0 - x0 + 1 <= y1 - x1 + 6; safe: y0 - y1 - x0 + x1 - 5 > 0
    expected = Literal(((0, ONE), (1, -ONE)), ((0, -ONE), (1, ONE)), Fraction(-5), strict=True)
    assert stated.requirement.clauses == ((expected,),)


def test_inequalities_between_inputs_cut_the_domain(read: Read) -> None:
    (stated,) = read(f"{DECLARATIONS}{BOX}(assert (< X_0 X_1))(assert (<= Y_0 0))", "p.vnnlib").properties
    assert stated.domain[0].cuts == (Literal((), ((0, -ONE), (1, ONE)), Fraction(0), strict=False),)


def test_strict_input_bounds_are_read_as_closed(read: Read) -> None:
    text = f"{DECLARATIONS}{BOX}(assert (< X_0 0.25))(assert (<= Y_0 0))"
    (stated,) = read(text, "p.vnnlib").properties
    assert stated.domain[0].box.upper[0] == Fraction(1, 4)


def test_comparisons_of_numbers_are_decided(read: Read) -> None:
    condition = "(or (and (<= 1 0) (<= Y_0 0)) (and (< 0 1) (<= Y_1 0)))"
    (stated,) = read(f"{DECLARATIONS}{BOX}(assert {condition})", "p.vnnlib").properties
    assert stated.requirement.clauses == ((y({1: 1}),),)


def test_missing_bound_points_at_the_declaration(read: Read) -> None:
    with pytest.raises(InputError, match=r"p\.vnnlib:3:16: X_1 has no lower and no upper bound"):
        read(f"{DECLARATIONS}(assert (<= X_0 0))(assert (>= X_0 0))(assert (<= Y_0 0))", "p.vnnlib")


def test_windows_line_ends_and_a_byte_order_mark_are_fine(read: Read) -> None:
    text = f"\ufeff{DECLARATIONS}{BOX}(assert (<= Y_0 0))".replace("\n", "\r\n")
    assert read(text, "p.vnnlib").properties[0].requirement.clauses == ((y({0: 1}),),)


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_a_comment_ends_with_its_line_however_lines_end(read: Read, line_break: str) -> None:
    text = f"{DECLARATIONS}{BOX}; and now (the requirement\n(assert (<= Y_0 Y_1))\n(assert (>= Y_2 3))\n"
    (stated,) = read(text.replace("\n", line_break), "p.vnnlib").properties
    assert stated.requirement.clauses == ((y({0: 1, 1: -1}), y({2: -1}, 3)),)
