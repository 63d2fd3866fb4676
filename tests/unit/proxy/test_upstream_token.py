"""The token that our own questions carry."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_READY
from sidecar.proxy.upstream import UpstreamFailure, UpstreamReply
from sidecar.proxy.upstream_token import MAX_FILE_BYTES, TokenFile, UpstreamWithToken

KEY_FILE = json.dumps(
    {"management": {"key": "m", "expiration time": "soon"}, "inference": {"key": "i"}, "API": {"key": "a"}}
)


@pytest.mark.parametrize(("content", "token"), [("abc.DEF-1=\n", "abc.DEF-1="), (KEY_FILE, "i")])
def test_a_token_alone_or_torchserves_key_for_inference(tmp_path: Path, content: str, token: str):
    path = tmp_path / "token"
    path.write_text(content)
    assert TokenFile(path).metadata() == (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize(
    "content",
    [
        *("", "two words", "a\nb", "{", "{}", '{"inference": 1}', '{"inference": {}}', '{"inference": {"key": 1}}'),
        *('{"inference":' * 30_000, "x" * (MAX_FILE_BYTES + 1), "é"),
    ],
)
def test_anything_else_is_none_and_is_not_shown(tmp_path: Path, content: str):
    path = tmp_path / "token"
    path.write_text(content)
    file = TokenFile(path)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^(?!.*two words)") as raised:
            file.metadata()
        assert not content or content not in str(raised.value)


def test_what_is_no_text_is_none(tmp_path: Path):
    (tmp_path / "token").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        TokenFile(tmp_path / "token").metadata()


def test_the_next_token_is_sent_as_soon_as_it_is_there(tmp_path: Path):
    path, upstream = tmp_path / "token", MemoryUpstream({MODEL_READY: b"yes"})
    asking = UpstreamWithToken(upstream, TokenFile(path))

    def ask():
        return asyncio.run(asking.call(MODEL_READY, b"", (("a", "b"),), 1.0))

    missing = ask()
    assert isinstance(missing, UpstreamFailure)
    assert "upstream_token" in missing.details
    assert not upstream.asked
    for token in ("first", "second"):
        path.write_text(token)
        os.utime(path, (1, 1 + len(upstream.asked)))  # as if long ago, so that an unchanged file is not read again
        for _ in range(2):
            assert isinstance(ask(), UpstreamReply)
            assert upstream.asked[-1].metadata == (("a", "b"), ("authorization", f"Bearer {token}"))
    assert asking.losses == upstream.losses
