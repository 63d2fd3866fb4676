"""A parameter that our protobuf runtime sets aside and a real Triton reads: why such a request is refused.

The parameter says that the input is in shared memory. Were it forwarded, Triton would take the input from there, while
the gates judged the one in the message.
"""

import grpc
import pytest

from sidecar.errors import Reason
from sidecar.proxy.methods import MODEL_INFER
from tests.conformance.building import refused
from tests.conformance.guarded_model import MODEL, request
from tests.conformance.wire_cases import HIDDEN_CASES
from tests.e2e.triton.launcher import PLAIN_MODEL, ServedFolder, running_triton
from tests.integration.proxy_harness import Loop, call, settings, sidecar

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_triton_reads_it_and_the_sidecar_refuses_it(triton_install, server_logs, tmp_path):
    (hidden,) = [case for case in HIDDEN_CASES if case.name == "shared-memory-in-an-entry-with-an-unknown-field"]
    assert hidden.expected == refused(Reason.MALFORMED_REQUEST)
    loop = Loop()
    folder = tmp_path / "triton"
    folder.mkdir()
    server_logs.append(folder / "triton.log")
    with running_triton(triton_install, [ServedFolder(MODEL, PLAIN_MODEL)], folder) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        ordinary = call(port, MODEL_INFER, request([0.75, 0]).SerializeToString())
        direct = call(port, MODEL_INFER, hidden.request)
        with sidecar(loop, settings(tmp_path, port)) as running:
            through = call(running.listen_port, MODEL_INFER, hidden.request)
    loop.close()
    assert ordinary.code is grpc.StatusCode.OK
    assert "'shared_memory_region' parameter for tensor 'x'" in direct.details
    assert through.code is grpc.StatusCode.INVALID_ARGUMENT
    assert through.trailing["gate-reason"] == Reason.MALFORMED_REQUEST
