"""What `make bench-compile` prints rests on these."""

import pathlib

from tests.benchmarks.public_sets import acas_xu, meaningful_violated_pairs


def test_the_instances_are_the_published_ones(acasxu: pathlib.Path) -> None:
    assert acasxu.is_dir()
    verdicts = [each.verdict for each in acas_xu()]
    assert (len(verdicts), verdicts.count("holds"), verdicts.count("violated")) == (186, 139, 47)
    pairs = meaningful_violated_pairs()
    assert len(pairs) == 41
    assert sum(each.name.endswith("prop_2") for each in pairs) == 39
