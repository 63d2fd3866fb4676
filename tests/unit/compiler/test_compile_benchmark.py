"""What `make bench-compile` prints rests on these."""

import pathlib

import pytest

from tests.benchmarks.compile_coverage import Sampled
from tests.benchmarks.public_sets import acas_xu, meaningful_violated_pairs


def test_a_sampled_share_lies_in_its_interval() -> None:
    low, high = Sampled(3, 4_000_000).interval
    assert low < 3 / 4_000_000 < high < 3e-6
    assert Sampled(0, 1000).interval[0] == 0.0
    assert Sampled(1000, 1000).interval[1] == 1.0
    assert Sampled(0, 200_000).interval[1] == pytest.approx(1 - 0.005 ** (1 / 200_000))


def test_the_instances_are_the_published_ones(acasxu: pathlib.Path) -> None:
    assert acasxu.is_dir()
    verdicts = [each.verdict for each in acas_xu()]
    assert (len(verdicts), verdicts.count("holds"), verdicts.count("violated")) == (186, 139, 47)
    pairs = meaningful_violated_pairs()
    assert len(pairs) == 41
    assert sum(each.name.endswith("prop_2") for each in pairs) == 39
