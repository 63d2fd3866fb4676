"""Which metadata travels on is said twice, in Rust and in Python: the same is said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy import metadata
from tests.native.test_crates import CRATES

native = pytest.importorskip("gate_sidecar_native", reason="NOT RUN: the native transport is not built (make native)")

_NAMED = re.compile(r'"([a-z][a-z0-9.-]+)"')


def _in_python(name: str) -> bool:
    return metadata.travelling(((name, "value"),)) != ()


def test_every_name_that_either_side_knows_is_treated_alike():
    sources = [(CRATES / "src" / "metadata.rs").read_text(), metadata.__loader__.get_source(metadata.__name__)]
    rust, python = (set(_NAMED.findall(source)) for source in sources)
    assert "transfer-encoding" in rust & python
    names = {variant for name in rust | python for variant in (name, f"{name}x", f"x{name}", f"{name}-bin")}
    assert {name: native.travels(name) for name in names} == {name: _in_python(name) for name in names}
    assert not native.travels("user-agent")
    assert native.travels("authorization")


@given(st.from_regex(r"(grpc-|gate-|x-)?[a-z0-9_.-]{1,12}(-bin)?", fullmatch=True))
def test_so_is_any_other(name: str):
    assert native.travels(name) == _in_python(name)
