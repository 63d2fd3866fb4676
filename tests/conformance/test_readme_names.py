"""The README's tables name cases and tests that exist."""

import re
from pathlib import Path

from tests.conformance.cases import CASES

TESTS = Path(__file__).resolve().parent.parent
README = Path(__file__).with_name("README.md")


def test_every_name_in_the_tables_is_a_case_or_a_test():
    facts = README.read_text().partition("## What was read off")[2]
    rows = [line for line in facts.splitlines() if line.startswith("| ") and "held by" not in line]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])}
    sources = {path: path.read_text() for path in TESTS.rglob("test_*.py")}
    tests = {name for text in sources.values() for name in re.findall(r"def (test_\w+)", text)}
    files = {str(path.relative_to(TESTS).with_suffix("")) for path in sources}
    assert named - tests - files - {case.name for case in CASES} == set()
    assert len(rows) > 40
    assert all("`" in row or "all cases" in row for row in rows)
