"""Where settings come from: the file with its places, the environment over it, flags over both."""

from pathlib import Path

import pytest

from sidecar.config import (
    BundleSource,
    FailureMode,
    HttpSource,
    ListenTls,
    ModelSettings,
    OciSource,
    OnUpstreamFailure,
    Outside,
    PredictionFormat,
    Probing,
    ServeSettings,
    TorchServeSettings,
    TransportChoice,
    Unguarded,
    UpstreamTls,
    UpstreamWords,
)
from sidecar.errors import InputError
from sidecar.gates.values import Mode
from sidecar.settings.file import MAX_FILE_BYTES
from sidecar.settings.given import Level
from sidecar.settings.resolve import resolve
from sidecar.settings.show import render
from sidecar.tensors import Datatype

EVERYTHING = """\
listen: 0.0.0.0:9001
upstream: triton:8001
admin: "[::1]:9002"
bundles:
  - a.gates
  - other=b.gates
  - path: /srv/c.gates
    name: planner
    mode: shadow
    modes: {keep-lane: off, "9": enforce}
  - lane=https://host/d.gates?v=1
  - {url: "http://host/e.gates", mode: off, modes: {keep-lane: shadow}}
  - f=oci://host:5000/team/f:v2@sha256:0101010101010101010101010101010101010101010101010101010101010101
  - {url: "oci+http://host/g@sha256:0101010101010101010101010101010101010101010101010101010101010101", mode: shadow}
mode: enforce
outside: refuse
message_limit: 16MiB
row_limit: 100
upstream_timeout: 500ms
drain: 0s
readiness_interval: 2m
trusted_keys: [ops.pub]
allow_unsigned: true
bundle_poll: 5s
bundle_timeout: 1m
registry_credentials: registries.json
allow_rollback: true
state_folder: state
held_limit: 32MiB
call_limit: 40
drain_delay: 0s
listen_tls: {certificate: c.pem, key: c.key, client_ca: ca.pem}
upstream_tls: {ca: /etc/ca.pem, server_name: triton.internal}
upstream_token: key_file.json
upstream_connections: 3
keepalive: 10s
probe: required
probe_interval: 1h
stream_idle: 5m
unguarded_models: pass
on_upstream_failure: fallback
upstream_words: all
fallback_reserve: 5ms
models:
  - {name: planner, outside: pass, failure_mode: open, on_upstream_failure: error, upstream_timeout: 80ms}
  - {name: lane, probe: off}
transport: portable
workers: 2
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return path


def _complete(folder: Path) -> ServeSettings:
    return ServeSettings(
        bundles=(
            BundleSource(folder / "a.gates"),
            BundleSource(folder / "b.gates", "other"),
            BundleSource(Path("/srv/c.gates"), "planner", Mode.SHADOW, (("keep-lane", Mode.OFF), ("9", Mode.ENFORCE))),
            HttpSource("https://host/d.gates?v=1", "lane"),
            HttpSource("http://host/e.gates", None, Mode.OFF, (("keep-lane", Mode.SHADOW),)),
            OciSource(f"oci://host:5000/team/f:v2@sha256:{'01' * 32}", "f"),
            OciSource(f"oci+http://host/g@sha256:{'01' * 32}", None, Mode.SHADOW),
        ),
        upstream="triton:8001",
        listen="0.0.0.0:9001",
        admin="[::1]:9002",
        mode=Mode.ENFORCE,
        outside=Outside.REFUSE,
        limit_bytes=16 << 20,
        limit_rows=100,
        upstream_timeout_seconds=0.5,
        drain_seconds=0.0,
        readiness_interval_seconds=120.0,
        trusted_keys=(folder / "ops.pub",),
        allow_unsigned=True,
        bundle_poll_seconds=5.0,
        bundle_timeout_seconds=60.0,
        registry_credentials=folder / "registries.json",
        allow_rollback=True,
        state_folder=folder / "state",
        limit_held_bytes=32 << 20,
        limit_calls=40,
        drain_delay_seconds=0.0,
        listen_tls=ListenTls(folder / "c.pem", folder / "c.key", folder / "ca.pem"),
        upstream_tls=UpstreamTls(ca=Path("/etc/ca.pem"), server_name="triton.internal"),
        upstream_token=folder / "key_file.json",
        upstream_connections=3,
        keepalive_seconds=10.0,
        probe=Probing.REQUIRED,
        probe_interval_seconds=3600.0,
        stream_idle_seconds=300.0,
        unguarded_models=Unguarded.PASS,
        on_upstream_failure=OnUpstreamFailure.FALLBACK,
        upstream_words=UpstreamWords.ALL,
        fallback_reserve_seconds=0.005,
        models=(
            ModelSettings(
                "planner",
                Outside.PASS,
                failure_mode=FailureMode.OPEN,
                on_upstream_failure=OnUpstreamFailure.ERROR,
                upstream_timeout_seconds=0.08,
            ),
            ModelSettings("lane", probe=Probing.OFF),
        ),
        transport=TransportChoice.PORTABLE,
        workers=2,
    )


def test_the_file_can_give_every_setting(tmp_path: Path) -> None:
    resolved = resolve(_file(tmp_path, EVERYTHING), {}, {})
    assert resolved.settings == _complete(tmp_path)
    assert all(given.level is Level.FILE for given in resolved.given.values())
    assert resolved.given["upstream"].place == f"{tmp_path}/sidecar.yaml:2:11"


def test_the_environment_can_give_every_setting_that_is_no_mapping() -> None:
    environment = {
        "GATE_BUNDLES": "a.gates,m=http://h/b.gates",
        "GATE_UPSTREAM": "h:1",
        "GATE_LISTEN": "h:2",
        "GATE_ADMIN": "h:3",
        "GATE_MODE": "shadow",
        "GATE_OUTSIDE": "refuse",
        "GATE_PROBE": "off",
        "GATE_PROBE_INTERVAL": "8s",
        "GATE_MESSAGE_LIMIT": "1KiB",
        "GATE_ROW_LIMIT": "7",
        "GATE_UPSTREAM_TIMEOUT": "1s",
        "GATE_DRAIN": "2s",
        "GATE_READINESS_INTERVAL": "3s",
        "GATE_TRUSTED_KEYS": "a.pub,b.pub",
        "GATE_ALLOW_UNSIGNED": "false",
        "GATE_BUNDLE_POLL": "4s",
        "GATE_BUNDLE_TIMEOUT": "5s",
        "GATE_REGISTRY_CREDENTIALS": "r.json",
        "GATE_ALLOW_ROLLBACK": "true",
        "GATE_STATE_FOLDER": "state",
        "GATE_HELD_LIMIT": "2KiB",
        "GATE_CALL_LIMIT": "8",
        "GATE_DRAIN_DELAY": "6s",
        "GATE_LISTEN_TLS": "certificate=c.pem,key=c.key",
        "GATE_UPSTREAM_TLS": "ca=ca.pem,certificate=u.pem,key=u.key,server_name=triton",
        "GATE_UPSTREAM_TOKEN": "token",
        "GATE_UPSTREAM_CONNECTIONS": "9",
        "GATE_KEEPALIVE": "7s",
        "GATE_STREAM_IDLE": "60s",
        "GATE_UNGUARDED_MODELS": "pass",
        "GATE_ON_UPSTREAM_FAILURE": "fallback",
        "GATE_UPSTREAM_WORDS": "all",
        "GATE_FALLBACK_RESERVE": "0s",
        "GATE_TRANSPORT": "native",
        "GATE_WORKERS": "3",
    }
    resolved = resolve(None, environment, {})
    sources = (BundleSource(Path("a.gates")), HttpSource("http://h/b.gates", "m"))
    assert resolved.settings == ServeSettings(
        bundles=sources,
        upstream="h:1",
        listen="h:2",
        admin="h:3",
        mode=Mode.SHADOW,
        outside=Outside.REFUSE,
        limit_bytes=1024,
        limit_rows=7,
        limit_held_bytes=2048,
        limit_calls=8,
        upstream_timeout_seconds=1.0,
        drain_seconds=2.0,
        drain_delay_seconds=6.0,
        readiness_interval_seconds=3.0,
        trusted_keys=(Path("a.pub"), Path("b.pub")),
        allow_unsigned=False,
        bundle_poll_seconds=4.0,
        bundle_timeout_seconds=5.0,
        registry_credentials=Path("r.json"),
        allow_rollback=True,
        state_folder=Path("state"),
        listen_tls=ListenTls(Path("c.pem"), Path("c.key")),
        upstream_tls=UpstreamTls(Path("ca.pem"), Path("u.pem"), Path("u.key"), "triton"),
        upstream_token=Path("token"),
        upstream_connections=9,
        keepalive_seconds=7.0,
        probe=Probing.OFF,
        probe_interval_seconds=8.0,
        stream_idle_seconds=60.0,
        unguarded_models=Unguarded.PASS,
        on_upstream_failure=OnUpstreamFailure.FALLBACK,
        upstream_words=UpstreamWords.ALL,
        fallback_reserve_seconds=0.0,
        transport=TransportChoice.NATIVE,
        workers=3,
    )
    assert {given.place for given in resolved.given.values()} == {*environment, "default"}
    assert [name for name, given in resolved.given.items() if given.place == "default"] == ["models"]


def test_flags_stand_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path, "{upstream: file:1, listen: file:2, admin: file:3, bundles: [a.gates]}")
    environment = {"GATE_LISTEN": "env:2", "GATE_ADMIN": "env:3"}
    resolved = resolve(file, environment, {"admin": "flag:3", "mode": None})
    settings = resolved.settings
    assert (settings.upstream, settings.listen, settings.admin) == ("file:1", "env:2", "flag:3")
    assert resolved.given["admin"].place == "flag --admin"
    assert resolved.given["mode"].place == "default"


def test_a_list_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = _file(tmp_path, "{upstream: h:1, bundles: [a.gates, b.gates]}")
    resolved = resolve(file, {"GATE_BUNDLES": "c.gates"}, {})
    assert resolved.settings.bundles == (BundleSource(Path("c.gates")),)


@pytest.mark.parametrize("over", ["environment", "flag"])
def test_a_mode_over_the_file_replaces_all_modes_in_it(tmp_path: Path, over: str) -> None:
    environment, flags = ({"GATE_MODE": "enforce"}, {}) if over == "environment" else ({}, {"mode": Mode.ENFORCE})
    settings = resolve(_file(tmp_path, EVERYTHING), environment, flags).settings
    assert settings.mode is Mode.ENFORCE
    assert all(source.mode is None and source.modes == () for source in settings.bundles)
    assert settings.bundles[2].model_name == "planner"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty; expected settings such as upstream: HOST:PORT"),
        ("upstrem: h:1", "1:1: the file: unknown key 'upstrem'; did you mean upstream?"),
        ("upstream: h:1\nupstream: h:2", "2:1: the file: the key 'upstream' stands here twice"),
        ("- upstream", "1:1: the file: expected keys with values"),
        ("upstream: {host: h}", "1:11: upstream: expected a single value"),
        ("upstream: h", "1:11: 'h' is no address"),
        ("upstream: h:1\nbundles: a.gates", "2:10: bundles: expected a list"),
        ("bundles:\n  - {name: m}", "2:5: bundles[0]: got none of them; give one of path, url"),
        ("bundles:\n  - {path: a, url: 'http://h/b'}", "2:5: bundles[0]: got path and url; give one of path, url"),
        ("bundles:\n  - {url: 'ftp://h/b'}", "2:11: a bundle's URL starts with http:// or https://"),
        ("bundles:\n  - {path: m, mod: off}", "2:15: bundles[0]: unknown key 'mod'; did you mean mode?"),
        ("bundles:\n  - path: m\n    modes: {a: of}", "3:16: 'of' is no choice; did you mean off?"),
        ("bundles:\n  - path: m\n    modes: {a: off, a: off}", "3:21: modes: the key 'a' stands here twice"),
        ("bundles:\n  - path: m\n    modes: off", "3:12: modes: expected keys with values"),
        ("bundles:\n  - path: m\n    name: ''", "3:11: '' is no name: it is empty"),
        ("listen_tls: {certificate: c.pem}", "1:13: listen_tls: "),
        ("listen_tls: certificate=c.pem", "1:13: 'certificate=c.pem' is not understood"),
        ("upstream_tls: {key: k.pem}", "1:15: upstream_tls: TLS towards the upstream has a certificate or a key only"),
        ("upstream_tls: key=k.pem", "1:15: TLS towards the upstream has a certificate or a key only"),
        ("upstream: unix:run/s", "1:11: 'unix:run/s' is no address: write the whole path"),
        ("bundles: [[a]]", "1:11: bundles[0]: expected a single value"),
        ("trusted_keys: []", "1:15: trusted_keys: expected a list with at least one item"),
        ("mode: enforced", "1:7: 'enforced' is no choice; did you mean enforce?"),
        ("message_limit: 64", "1:16: '64' is no size: write a whole number with a unit"),
        ("drain: 10", "1:8: '10' is no duration: write a number with a unit"),
        ("upstream_timeout: 0s", "1:19: '0s' is no time at all"),
        ("row_limit: 0", "1:12: '0' is out of range"),
        ("allow_unsigned: yes", "1:17: 'yes' is neither true nor false"),
        ("upstream: &a h:1", "1:11: YAML: anchors and aliases are not read"),
        ("upstream: !!str h:1", "1:11: YAML: tags are not read"),
        ("upstream: [", "YAML: "),
        (
            "allow_unsigned: false\nupstream: h:1\nbundles: [a]",
            "1:17: allow_unsigned is false and there are no trusted_keys: no bundle can be accepted",
        ),
        ("upstream: h:1", "bundles is not given: use --bundle [NAME=]B.gates, GATE_BUNDLES, or bundles: in "),
        ("bundles: [a]", "upstream is not given: use --upstream HOST:PORT, GATE_UPSTREAM, or upstream: in "),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(InputError) as caught:
        resolve(path, {}, {})
    message = str(caught.value)
    assert expected in message
    assert str(path) in message
    assert "\n" not in message


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the settings"):
        resolve(tmp_path / "none.yaml", {}, {})
    with pytest.raises(InputError, match="larger than"):
        resolve(_file(tmp_path, "#" * (MAX_FILE_BYTES + 1)), {}, {})
    (tmp_path / "latin.yaml").write_bytes(b"upstream: \xe4:1")
    with pytest.raises(InputError, match="not UTF-8"):
        resolve(tmp_path / "latin.yaml", {}, {})


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("GATE_DRAIN", "10", "environment variable GATE_DRAIN: '10' is no duration"),
        ("GATE_MODE", "", "environment variable GATE_MODE: it is set and empty"),
        ("GATE_TRUSTED_KEYS", "a.pub,", "environment variable GATE_TRUSTED_KEYS: '' is no path"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told_by_name(variable: str, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(None, {variable: text}, {})
    assert expected in str(caught.value)


def test_a_variable_nearly_like_a_setting_is_remarked_on_and_others_are_not() -> None:
    environment = {"GATE_UPSTRAEM": "h:2", "GATE_SIDECAR_SERVICE_HOST": "10.0.0.1", "GATE_DATA": "/d", "HOME": "/"}
    flags = {"upstream": "h:1", "bundles": (BundleSource(Path("a")),)}
    notes = resolve(None, environment, flags).notes
    assert notes == ("environment variable GATE_UPSTRAEM is no setting; did you mean GATE_UPSTREAM?",)


def test_unsigned_bundles_are_accepted_where_nobody_is_trusted_and_otherwise_only_on_request() -> None:
    bundles = (BundleSource(Path("a")),)
    keys = (Path("ops.pub"),)
    assert ServeSettings(bundles, "h:1").accepts_unsigned
    assert not ServeSettings(bundles, "h:1", trusted_keys=keys).accepts_unsigned
    assert ServeSettings(bundles, "h:1", trusted_keys=keys, allow_unsigned=True).accepts_unsigned
    with pytest.raises(ValueError, match="no bundle can be accepted"):
        ServeSettings(bundles, "h:1", allow_unsigned=False)


TORCHSERVE = """\
upstream: torchserve:7070
bundles: [a.gates]
models:
  - name: json
    torchserve:
      format: json
      client_datatype: FP64
      key: body
      other_keys: [meta, "trace id"]
      inputs: {x: "/rows/*/gap, /rows/*/own speed"}
      outputs: {"y 1": /predictions, z: /z/*}
      stream: true
  - {name: raw, torchserve: {format: raw}}
"""


def test_how_torchserve_serves_a_model_is_read(tmp_path: Path) -> None:
    settings = resolve(_file(tmp_path, TORCHSERVE), {}, {}).settings
    assert settings.policy("json").torchserve == TorchServeSettings(
        PredictionFormat.JSON,
        Datatype.FP64,
        key="body",
        other_keys=("meta", "trace id"),
        inputs=(("x", ("/rows/*/gap", "/rows/*/own speed")),),
        outputs=(("y 1", ("/predictions",)), ("z", ("/z/*",))),
        stream=True,
    )
    assert settings.policy("raw").torchserve == TorchServeSettings(PredictionFormat.RAW)
    assert settings.policy("another").torchserve is None


@pytest.mark.parametrize(
    ("torchserve", "complaint"),
    [
        ("json", "stands where keys with values are expected"),
        ("{key: data}", "the key 'format' is missing"),
        ("{format: pickle}", "'pickle' is no choice"),
        ("{format: json, inputs: {x: /a}, outputs: {y: /b}}", "JSON does not say as what clients read its numbers"),
        ("{format: json, client_datatype: FP32, inputs: {x: /a}}", "format json needs inputs and outputs"),
        ("{format: json, client_datatype: INT8, inputs: {x: /a}, outputs: {y: /b}}", "'INT8' is no choice"),
        ("{format: json, client_datatype: FP32, inputs: {x: a}, outputs: {y: /b}}", "3:82: 'a' is no place"),
        ("{format: raw, inputs: {x: /a}}", "format raw has none"),
        ("{format: open_inference, key: body}", "open_inference has no further settings"),
        ("{format: open_inference, stream: true}", "open_inference has no further settings"),
    ],
)
def test_torchserve_settings_that_make_no_sense_are_told(tmp_path: Path, torchserve: str, complaint: str) -> None:
    text = f"bundles: [a.gates]\nupstream: h:1\nmodels: [{{name: m, torchserve: {torchserve}}}]\n"
    with pytest.raises(InputError, match=complaint):
        resolve(_file(tmp_path, text), {}, {})


@pytest.mark.parametrize(
    "text",
    [
        EVERYTHING,
        TORCHSERVE,
        "upstream: h:1\nbundles: ['a file.gates', \"{x}.gates\", 'J\u00fcrg: 1.gates', '#.gates']",
    ],
)
def test_what_show_prints_is_a_file_that_means_the_same(tmp_path: Path, text: str) -> None:
    first = resolve(_file(tmp_path, text), {}, {})
    (tmp_path / "again").mkdir()
    again = resolve(_file(tmp_path / "again", render(first)), {}, {})
    assert again.settings == first.settings


def test_show_says_where_each_setting_comes_from(tmp_path: Path) -> None:
    file = _file(tmp_path, "upstream: h:1\nbundles: [/a.gates]")
    lines = render(resolve(file, {"GATE_MODE": "shadow"}, {"outside": Outside.REFUSE})).splitlines()
    assert f"upstream: h:1  # {file}:1:11" in lines
    assert "mode: shadow  # GATE_MODE" in lines
    assert "outside: refuse  # flag --outside" in lines
    assert "message_limit: 64MiB  # default" in lines
    assert "# allow_unsigned: true without trusted_keys, false with  # default" in lines
    assert "  - {path: /a.gates}" in lines


def test_what_is_given_for_a_model_stands_over_what_is_given_for_all(tmp_path: Path) -> None:
    settings = _complete(tmp_path)
    policies = [settings.policy(name) for name in ("planner", "lane", "another")]
    assert [policy.outside for policy in policies] == [Outside.PASS, Outside.REFUSE, Outside.REFUSE]
    assert [policy.probe for policy in policies] == [Probing.REQUIRED, Probing.OFF, Probing.REQUIRED]


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        ("[planner]", r"3:10: .*'planner' stands where keys with values are expected"),
        ("[{outside: refuse}]", r"the key 'name' is missing"),
        ("[{name: a}, {name: a}]", r"models names a model twice: a, a"),
    ],
)
def test_models_are_mappings_that_each_name_another_model(tmp_path: Path, models: str, complaint: str) -> None:
    file = _file(tmp_path, f"bundles: [a.gates]\nupstream: h:1\nmodels: {models}\n")
    with pytest.raises(InputError, match=complaint):
        resolve(file, {}, {})
