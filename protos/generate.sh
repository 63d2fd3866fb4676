#!/bin/sh
# Writes the Python modules of protos/*.proto to the folder given, by default to where they are checked in.
# `make check` generates into a scratch folder and compares. Needs grpcio-tools at the version pinned in pyproject.toml.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
target=${1:-$root/sidecar/protocols/generated}
cd "$root/protos"
"${PYTHON:-python3}" -m grpc_tools.protoc -I . --python_out="$target" --pyi_out="$target" health.proto open_inference.proto reflection.proto torchserve.proto
