"""Whatever stands in a settings file or in the environment: settings, or one line that says what is wrong."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import InputError
from sidecar.settings.resolve import resolve
from sidecar.settings.show import render
from sidecar.settings.table import BUNDLE_SETTINGS, SETTINGS

GOOD = "upstream: h:1\nbundles: [{path: a, modes: {p: off}}, m=b]\ndrain: 3s\nmessage_limit: 1MiB\ntrusted_keys: [k]\n"

_words = st.sampled_from(
    [
        *(s.name for s in (*SETTINGS, *BUNDLE_SETTINGS)),
        "h:1",
        "3s",
        "1MiB",
        "off",
        "enforce",
        "true",
        "",
        "a=b",
        "\u00e4",
    ]
) | st.text(max_size=6)
_trees = st.recursive(
    _words,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_words, children, max_size=4),
    max_leaves=12,
)
_mutated = st.tuples(
    st.integers(0, len(GOOD)), st.integers(0, 8), st.text(alphabet=":-[]{}#&*!|>'\"\n\t ,?%@\0\x85aé1", max_size=4)
)


def _resolve(content: bytes, environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar.yaml"
        path.write_bytes(content)
        try:
            resolved = resolve(path, environment, {})
        except InputError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 1000
            return
        shown = render(resolved)
        path.write_text(shown)
        assert _without_places(render(resolve(path, {}, {}))) == _without_places(shown)


def _without_places(shown: str) -> list[str]:
    return [line.rpartition("  # ")[0] or line for line in shown.splitlines()]


def _yaml(tree: object) -> str:
    match tree:
        case dict():
            return "{" + ", ".join(f"{_yaml(key)}: {_yaml(value)}" for key, value in tree.items()) + "}"
        case list():
            return "[" + ", ".join(map(_yaml, tree)) + "]"
        case _:
            return "'" + str(tree).replace("'", "''") + "'"


@settings(deadline=None)
@given(st.dictionaries(_words, _trees, max_size=4))
def test_any_structure_is_read_or_refused_in_one_line(tree: dict[str, object]) -> None:
    _resolve(_yaml(tree).encode(errors="surrogatepass"), {"GATE_UPSTREAM": "h:1", "GATE_BUNDLES": "a"})


@settings(deadline=None)
@given(_mutated)
def test_any_slip_in_a_good_file_is_read_or_refused_in_one_line(mutation: tuple[int, int, str]) -> None:
    place, gone, put = mutation
    _resolve((GOOD[:place] + put + GOOD[place + gone :]).encode(), {})


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_in_one_line(content: bytes) -> None:
    _resolve(content, {})


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([setting.variable for setting in SETTINGS]), _words, max_size=5))
def test_any_environment_is_read_or_refused_in_one_line(environment: dict[str, str]) -> None:
    _resolve(GOOD.encode(), environment)
