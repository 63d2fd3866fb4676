"""Files of `docker login`."""

import base64
import json
import os
from pathlib import Path

import pytest

from sidecar.remote.credentials import MAX_FILE_BYTES, Login, login_for
from sidecar.remote.web import RemoteError


def _auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("entries", "login"),
    [
        ({"host:5000": {"auth": _auth("me:pass:word")}}, Login("me", "pass:word")),
        ({"https://host:5000/v1/": {"auth": _auth("me:")}}, Login("me", "")),
        ({"host:5000": {"username": "me", "password": "p", "auth": "ignored"}}, Login("me", "p")),
        ({"host": {"auth": _auth("me:p")}}, None),
        ({}, None),
    ],
)
def test_who_we_are(tmp_path: Path, entries: dict, login: Login | None):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": entries, "HttpHeaders": {}}))
    assert login_for("host:5000", path) == login


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"s3cret",
        b"[]",
        b"[" * 100_000,
        b'{"auths": []}',
        b'{"auths": {"host": {}}}',
        b'{"auths": {"host": null, "host": 1}}',
        b'{"auths": {"host": {"auth": "s3cret"}}}',
        b'{"auths": {"host": {"auth": 5}}}',
        b'{"auths": {"host": {"auth": "c2VjcmV0"}}}',
        b'{"auths": {"host": {"auth": "/w=="}}}',
        b'{"auths": {"host": {"identitytoken": "s3cret"}}}',
        b" " * (MAX_FILE_BYTES + 1),
    ],
)
def test_what_is_not_understood_is_told_without_what_it_holds(tmp_path: Path, content: bytes):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(RemoteError, match="are not understood") as caught:
        login_for("host", path)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("none", "No such file"), ("pipe", "no regular file")):
        with pytest.raises(RemoteError, match=words):
            login_for("host", tmp_path / name)


def test_a_password_is_not_shown():
    login = Login("me", "s3cret")
    assert "s3cret" not in repr(login)
    assert base64.b64decode(login.basic.removeprefix("Basic ")) == b"me:s3cret"
