"""The stored inputs, each once, without a fuzzer: what was once found stays found."""

import pytest

from tests.fuzz.catalogue import CORPUS, NAMES, load, stored
from tests.fuzz.target import run

MAX_CORPUS_BYTES = 600_000


@pytest.mark.parametrize("name", NAMES)
def test_no_stored_input_and_no_seed_is_a_finding(name: str):
    target = load(name)
    inputs = [*target.seeds, *(path.read_bytes() for path in stored(name))]
    assert len(inputs) > len(target.seeds), "no inputs are stored"
    for data in inputs:
        run(target, data)


def test_the_stored_corpus_stays_small():
    assert {path.name for path in CORPUS.iterdir()} == set(NAMES)
    assert sum(path.stat().st_size for name in NAMES for path in stored(name)) < MAX_CORPUS_BYTES
