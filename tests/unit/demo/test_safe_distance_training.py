"""The shipped network is what training gives, and it errs as trained."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sidecar.demo import train
from sidecar.demo.driving import ADVICE, INPUT, LARGEST, LOWER, MODEL_PATH, OUTPUT, UPPER
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Network, forward

Situations = npt.NDArray[np.float64]
BRAKES = (ADVICE.index("BRAKE_HARD"), ADVICE.index("BRAKE"))
NO_ACCELERATION = (*BRAKES, ADVICE.index("HOLD"))


def closing_in(situations: Situations) -> npt.NDArray[np.bool_]:
    gap, _, closing = situations.T
    return (gap <= 40) & (closing >= 10)


def tailgating(situations: Situations) -> npt.NDArray[np.bool_]:
    gap, own, closing = situations.T
    return (gap <= 0.9 * own) & (closing >= -1.5)


def top_speed(situations: Situations) -> npt.NDArray[np.bool_]:
    _, own, closing = situations.T
    return (own >= 37) & (closing >= -5)


PROPERTIES = [
    pytest.param(closing_in, BRAKES, id="brake-when-closing-in"),
    pytest.param(tailgating, BRAKES, id="brake-when-tailgating"),
    pytest.param(top_speed, NO_ACCELERATION, id="no-acceleration-at-top-speed"),
]
Domain = Callable[[Situations], npt.NDArray[np.bool_]]


@pytest.fixture(scope="module")
def retrained() -> train.Layers:
    return train.train()


@pytest.fixture(scope="module")
def shipped() -> Network:
    return read_model(MODEL_PATH).network


@pytest.fixture(scope="module")
def everywhere() -> Situations:
    lower, upper = np.multiply(LOWER, LARGEST), np.multiply(UPPER, LARGEST)
    return np.random.default_rng(11).uniform(lower, upper, (400_000, len(LARGEST)))


def violated_share(best: npt.NDArray[np.int64], allowed: tuple[int, ...]) -> float:
    return float((~np.isin(best, allowed)).mean())


@pytest.mark.parametrize(("domain", "allowed"), PROPERTIES)
def test_shipped_network_violates_each_property_on_a_small_share_of_its_domain(
    shipped: Network, everywhere: Situations, domain: Domain, allowed: tuple[int, ...]
) -> None:
    situations = everywhere[domain(everywhere)]
    best = forward(shipped, situations / LARGEST).argmax(axis=1)
    assert len(situations) > 10_000
    assert 0.001 < violated_share(best, allowed) < 0.06


@pytest.mark.parametrize(("domain", "allowed"), PROPERTIES)
def test_retraining_errs_as_often_as_the_shipped_network(
    shipped: Network,
    retrained: train.Layers,
    everywhere: Situations,
    domain: Domain,
    allowed: tuple[int, ...],
) -> None:
    inputs = everywhere[domain(everywhere)] / LARGEST
    ours = violated_share(train.activations(retrained, inputs)[-1].argmax(axis=1), allowed)
    theirs = violated_share(forward(shipped, inputs).argmax(axis=1), allowed)
    assert ours == pytest.approx(theirs, rel=0.5, abs=0.01)


def test_retraining_is_as_accurate_as_the_shipped_network(shipped: Network, retrained: train.Layers) -> None:
    situations = train.recorded_driving(np.random.default_rng(12), 20_000)
    best = forward(shipped, situations / LARGEST).argmax(axis=1)
    theirs = (best == train.rule(situations)).mean()
    assert theirs > 0.95
    assert train.accuracy(retrained) == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize(("domain", "allowed"), PROPERTIES)
def test_labels_that_the_network_learned_from_never_violate(
    everywhere: Situations, domain: Domain, allowed: tuple[int, ...]
) -> None:
    situations = everywhere[domain(everywhere)]
    assert violated_share(train.rule(situations), allowed) == 0


def test_nobody_closes_in_fast_in_recorded_driving() -> None:
    assert closing_in(train.recorded_driving(np.random.default_rng(13), 20_000)).mean() < 0.001


def test_gradients_agree_with_finite_differences() -> None:
    random = np.random.default_rng(14)
    layers = train.start(random)
    inputs, labels = random.random((5, len(LARGEST))), np.array([0, 1, 2, 3, 1])

    def loss() -> float:
        scores = train.activations(layers, inputs)[-1]
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(-logs[np.arange(5), labels].mean())

    for (weight, _), (slopes, _) in zip(layers, train.gradients(layers, inputs, labels), strict=True):
        weight[1, 2] += 1e-6
        above = loss()
        weight[1, 2] -= 2e-6
        below = loss()
        weight[1, 2] += 1e-6
        assert (above - below) / 2e-6 == pytest.approx(slopes[1, 2], abs=1e-6)


def test_exported_file_computes_the_trained_function(retrained: train.Layers, tmp_path: Path) -> None:
    inputs = np.random.default_rng(15).random((100, len(LARGEST)))
    target = tmp_path / "again.onnx"
    onnx.save(train.to_onnx(retrained), target)
    exported = read_model(target).network
    assert exported.signature.batch_axis == 0
    assert [spec.name for spec in (*exported.signature.inputs, *exported.signature.outputs)] == [INPUT, OUTPUT]
    assert forward(exported, inputs) == pytest.approx(train.activations(retrained, inputs)[-1], abs=1e-3)
