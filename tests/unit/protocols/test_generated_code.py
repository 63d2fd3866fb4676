"""The checked-in generated code: up to date, and able to live beside another maker's."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GENERATED = ROOT / "sidecar" / "protocols" / "generated"

OURS = "from sidecar.protocols.generated import open_inference_pb2 as ours"
THEIRS = "from tritonclient.grpc import service_pb2 as theirs"
COMPARE = """
def fields(message):
    described = message.fields
    return {(f.number, f.name, f.type, f.is_repeated, f.message_type and f.message_type.name) for f in described}

names = "ModelInferRequest ModelInferResponse ModelMetadataResponse InferTensorContents InferParameter"
for name in names.split():
    a, b = getattr(ours, name).DESCRIPTOR, getattr(theirs, name).DESCRIPTOR
    assert fields(a) == fields(b), name
    assert {n.name: fields(n) for n in a.nested_types} == {n.name: fields(n) for n in b.nested_types}, name

request = ours.ModelInferRequest(model_name="m", raw_input_contents=[b"abc"])
request.parameters["p"].uint64_param = 7
content = request.SerializeToString()
assert theirs.ModelInferRequest.FromString(content).SerializeToString() == content
"""


@pytest.mark.parametrize("imports", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
def test_coexists_with_tritonclient_and_means_the_same(imports):
    subprocess.run([sys.executable, "-c", "\n".join((*imports, COMPARE))], check=True, timeout=60)


def test_is_what_the_proto_file_generates(tmp_path):
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    subprocess.run([ROOT / "protos" / "generate.sh", tmp_path], check=True, env=environment, timeout=60)
    names = sorted(path.name for path in GENERATED.glob("*_pb2.py*"))
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_text() == (GENERATED / name).read_text()
