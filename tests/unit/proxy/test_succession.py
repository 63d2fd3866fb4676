"""Which bundles guard after a look: the rule, row by row."""

import dataclasses
import datetime

import pytest

from sidecar.bundle.signature import SignedBy
from sidecar.config import ModelPolicy
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.active_bundle import ActiveBundle, activate, in_force
from sidecar.proxy.succession import Failure, Guard, Offer, may_guard_more, succeed
from tests.conformance.bundle_variants import variant

BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOW = BEFORE + datetime.timedelta(hours=1)


def _bundle(level: int, revision: int = 3, name: str = "guarded") -> ActiveBundle:
    return activate(variant(level, revision, name))


def _signed(bundle: ActiveBundle, end: datetime.datetime | None) -> ActiveBundle:
    return dataclasses.replace(bundle, signed=SignedBy("k", end))


def _guards(bundle: ActiveBundle, **changes) -> dict[str, Guard]:
    return {bundle.model_name: Guard(**{"bundle": bundle, "place": "a", "source": "s", "since": BEFORE, **changes})}


def _offer(bundle: ActiveBundle, place: str = "a") -> Offer:
    return Offer(bundle, place, "s")


def _succeed(guards, *offers: Offer, allow_rollback: bool = False):
    after = succeed(guards, offers, NOW, allow_rollback)
    return after.guards, [(failure.place, failure.reason) for failure in after.failures]


def test_the_first_bundle_of_a_model_guards_it():
    first, other = _bundle(1), _bundle(1, name="other")
    guards, failures = _succeed(_guards(first), _offer(first), _offer(other, "b"))
    assert failures == []
    assert (guards["other"].bundle, guards["other"].place, guards["other"].since) == (other, "b", NOW)


@pytest.mark.parametrize("revision", [3, 4])
def test_a_bundle_of_the_same_or_a_higher_revision_takes_over(revision: int):
    new = _bundle(2, revision)
    guards, failures = _succeed(_guards(_bundle(1)), _offer(new))
    assert (guards["guarded"].bundle, guards["guarded"].since, failures) == (new, NOW, [])


def test_a_lower_revision_is_refused_and_the_active_one_stays():
    before = _guards(_bundle(1))
    guards, failures = _succeed(before, _offer(_bundle(2, 2)))
    assert (guards, failures) == (before, [("a", Reason.BUNDLE_ROLLBACK)])


def test_a_lower_revision_takes_over_where_rollback_is_allowed():
    new = _bundle(2, 2)
    guards, failures = _succeed(_guards(_bundle(1)), _offer(new), allow_rollback=True)
    assert (guards["guarded"].bundle, failures) == (new, [])


def test_the_same_bundle_again_is_no_change():
    before = _guards(_bundle(1))
    guards, failures = _succeed(before, _offer(_bundle(1)))
    assert guards["guarded"] is before["guarded"]
    assert failures == []


def test_the_same_bundle_at_another_place_stays_active_since_then():
    before = _guards(_bundle(1))
    guards, _ = _succeed(before, _offer(_bundle(1), "b"))
    after = guards["guarded"]
    assert (after.place, after.since, after.bundle) == ("b", BEFORE, before["guarded"].bundle)


def test_a_last_good_bundle_that_its_source_gives_again_is_none_any_more():
    guards, _ = _succeed(_guards(_bundle(1), is_last_good=True), _offer(_bundle(1)))
    assert not guards["guarded"].is_last_good


def test_a_last_good_bundle_keeps_its_revision_from_going_down():
    guards, failures = _succeed(_guards(_bundle(1), is_last_good=True), _offer(_bundle(2, 2)))
    assert guards["guarded"].is_last_good
    assert failures == [("a", Reason.BUNDLE_ROLLBACK)]


def test_without_an_offer_a_model_stays_guarded():
    before = _guards(_bundle(1))
    assert _succeed(before) == (before, [])


def test_two_bundles_for_an_unguarded_model_leave_it_unguarded():
    guards, failures = _succeed({}, _offer(_bundle(1)), _offer(_bundle(2), "b"))
    assert (guards, failures) == ({}, [("a", Reason.BUNDLE_CONFLICT), ("b", Reason.BUNDLE_CONFLICT)])


def test_a_rival_of_the_active_bundle_is_refused():
    before = _guards(_bundle(1))
    guards, failures = _succeed(before, _offer(before["guarded"].bundle), _offer(_bundle(2, 4), "b"))
    assert (guards, failures) == (before, [("b", Reason.BUNDLE_CONFLICT)])


def test_with_a_rival_there_an_update_is_refused_too():
    before = _guards(_bundle(1))
    guards, failures = _succeed(before, _offer(_bundle(1, 4)), _offer(_bundle(2, 4), "b"))
    assert (guards, len(failures)) == (before, 2)


def test_the_same_bundle_in_other_modes_takes_over_and_is_active_since_then():
    new = in_force(_bundle(1), Mode.SHADOW, {}, ModelPolicy())
    guards, _ = _succeed(_guards(_bundle(1)), _offer(new))
    assert (guards["guarded"].bundle, guards["guarded"].since) == (new, BEFORE)


class TestEndedSignatures:
    def test_an_ended_one_activates_nothing(self):
        assert _succeed({}, _offer(_signed(_bundle(1), NOW))) == ({}, [("a", Reason.BUNDLE_EXPIRED)])

    def test_one_that_has_not_ended_does(self):
        later = NOW + datetime.timedelta(seconds=1)
        guards, failures = _succeed({}, _offer(_signed(_bundle(1), later)))
        assert (list(guards), failures) == (["guarded"], [])

    def test_what_guards_already_goes_on_and_is_reported(self):
        before = _guards(_signed(_bundle(1), BEFORE))
        guards, failures = _succeed(before, _offer(before["guarded"].bundle))
        assert (guards, set(failures)) == (before, {("a", Reason.BUNDLE_EXPIRED)})
        assert _succeed(before) == (before, [("a", Reason.BUNDLE_EXPIRED)])

    def test_an_ended_one_displaces_nothing_and_is_no_rival(self):
        before = _guards(_bundle(1))
        guards, failures = _succeed(before, _offer(_signed(_bundle(2, 9), NOW)))
        assert (guards, failures) == (before, [("a", Reason.BUNDLE_EXPIRED)])
        guards, failures = _succeed(before, _offer(_signed(_bundle(2, 9), NOW), "b"), _offer(_bundle(3, 4)))
        assert (guards["guarded"].bundle.revision, failures) == (4, [("b", Reason.BUNDLE_EXPIRED)])

    def test_the_same_bundle_signed_anew_takes_over_and_is_active_since_then(self):
        new = _signed(_bundle(1), None)
        guards, failures = _succeed(_guards(_signed(_bundle(1), BEFORE)), _offer(new))
        assert (guards["guarded"].bundle, guards["guarded"].since, failures) == (new, BEFORE, [])


@pytest.mark.parametrize(
    ("place", "reason", "model_name", "may"),
    [
        ("b", Reason.BUNDLE_SIGNATURE, None, True),
        ("b", Reason.BUNDLE_SIGNATURE, "other", True),
        ("b", Reason.BUNDLE_SIGNATURE, "guarded", False),
        ("a", Reason.BUNDLE_SIGNATURE, None, True),  # what stands there now may be for another model
        ("b", Reason.BUNDLE_UNREADABLE, None, True),
        ("a", Reason.BUNDLE_UNREADABLE, None, False),
        ("s", Reason.BUNDLE_UNREADABLE, None, False),
    ],
)
def test_what_is_not_active_may_be_for_a_model_that_nobody_guards(place, reason, model_name, may):
    failure = Failure(place, reason, "", model_name)
    assert may_guard_more([failure], _guards(_bundle(1))) == ((place,) if may else ())


def test_refused_bundles_say_for_which_model_they_are():
    rollback = succeed(_guards(_bundle(1)), [_offer(_bundle(2, 2))], NOW, False)
    conflict = succeed({}, [_offer(_bundle(1)), _offer(_bundle(2), "b")], NOW, False)
    assert {failure.model_name for failure in (*rollback.failures, *conflict.failures)} == {"guarded"}
