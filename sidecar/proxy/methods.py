"""What happens to each RPC: one table, deny by default.

Passed RPCs only ask. Denied are those that can change the model or its surroundings under the gates, and
those whose messages carry tensors that nobody judges.

Source: the service `inference.GRPCInferenceService` as NVIDIA Triton offers it (20 RPCs); TorchServe 0.12's services
for inference, Open Inference and management; the gRPC health checking and server reflection protocols.
"""

import enum
from typing import Final

SERVICE: Final = "/inference.GRPCInferenceService/"
TORCHSERVE: Final = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
TORCHSERVE_OPEN_INFERENCE: Final = "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/"
TORCHSERVE_MANAGEMENT: Final = "/org.pytorch.serve.grpc.management.ManagementAPIsService/"


class Rule(enum.StrEnum):
    """What is done with a method; a metric label."""

    GATED = "gated"
    GATED_STREAM = "gated_stream"
    GATED_PREDICTION_STREAM = "gated_prediction_stream"
    PASSED = "passed"
    ANSWERED = "answered"
    DENIED_REPOSITORY_CONTROL = "denied_repository_control"
    DENIED_SHARED_MEMORY = "denied_shared_memory"
    DENIED_SERVER_SETTINGS = "denied_server_settings"
    DENIED_PREDICTION_STREAM = "denied_prediction_stream"
    UNSUPPORTED_UNKNOWN = "unsupported_unknown"


DENIED: Final = (
    Rule.DENIED_REPOSITORY_CONTROL,
    Rule.DENIED_SHARED_MEMORY,
    Rule.DENIED_SERVER_SETTINGS,
    Rule.DENIED_PREDICTION_STREAM,
)
STREAMED: Final = (Rule.GATED_STREAM, Rule.GATED_PREDICTION_STREAM)
UNSUPPORTED: Final = (Rule.UNSUPPORTED_UNKNOWN,)

MODEL_INFER: Final = SERVICE + "ModelInfer"
MODEL_STREAM_INFER: Final = SERVICE + "ModelStreamInfer"
MODEL_READY: Final = SERVICE + "ModelReady"
MODEL_METADATA: Final = SERVICE + "ModelMetadata"
SERVER_READY: Final = SERVICE + "ServerReady"

PREDICTIONS: Final = TORCHSERVE + "Predictions"
STREAM_PREDICTIONS: Final = TORCHSERVE + "StreamPredictions"
PING: Final = TORCHSERVE + "Ping"
TORCHSERVE_MODEL_INFER: Final = TORCHSERVE_OPEN_INFERENCE + "ModelInfer"
TORCHSERVE_SERVER_READY: Final = TORCHSERVE_OPEN_INFERENCE + "ServerReady"

HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"
REFLECTION: Final = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
REFLECTION_ALPHA: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

RULES: Final[dict[str, Rule]] = {
    MODEL_INFER: Rule.GATED,
    MODEL_STREAM_INFER: Rule.GATED_STREAM,
    # Whether *we* are ready is ours to say: the upstream knows nothing of the bundles.
    SERVER_READY: Rule.ANSWERED,
    HEALTH_CHECK: Rule.ANSWERED,
    HEALTH_WATCH: Rule.ANSWERED,
    REFLECTION: Rule.ANSWERED,
    REFLECTION_ALPHA: Rule.ANSWERED,
    SERVICE + "ServerLive": Rule.PASSED,
    MODEL_READY: Rule.PASSED,
    SERVICE + "ServerMetadata": Rule.PASSED,
    MODEL_METADATA: Rule.PASSED,
    SERVICE + "ModelConfig": Rule.PASSED,
    SERVICE + "ModelStatistics": Rule.PASSED,
    SERVICE + "RepositoryIndex": Rule.PASSED,
    # With explicit model control one call can replace a model's code and configuration.
    SERVICE + "RepositoryModelLoad": Rule.DENIED_REPOSITORY_CONTROL,
    SERVICE + "RepositoryModelUnload": Rule.DENIED_REPOSITORY_CONTROL,
    # Tensors in shared memory are not in the message.
    SERVICE + "SystemSharedMemoryStatus": Rule.DENIED_SHARED_MEMORY,
    SERVICE + "SystemSharedMemoryRegister": Rule.DENIED_SHARED_MEMORY,
    SERVICE + "SystemSharedMemoryUnregister": Rule.DENIED_SHARED_MEMORY,
    SERVICE + "CudaSharedMemoryStatus": Rule.DENIED_SHARED_MEMORY,
    SERVICE + "CudaSharedMemoryRegister": Rule.DENIED_SHARED_MEMORY,
    SERVICE + "CudaSharedMemoryUnregister": Rule.DENIED_SHARED_MEMORY,
    SERVICE + "TraceSetting": Rule.DENIED_SERVER_SETTINGS,
    SERVICE + "LogSettings": Rule.DENIED_SERVER_SETTINGS,
    PREDICTIONS: Rule.GATED,
    # TorchServe says "Healthy" while a model hangs for ever.
    PING: Rule.ANSWERED,
    # Both end or hang workers whose handlers are not made for streams: the first is for models that allow it only.
    STREAM_PREDICTIONS: Rule.GATED_PREDICTION_STREAM,
    TORCHSERVE + "StreamPredictions2": Rule.DENIED_PREDICTION_STREAM,
    TORCHSERVE_MODEL_INFER: Rule.GATED,
    TORCHSERVE_SERVER_READY: Rule.ANSWERED,
    TORCHSERVE_OPEN_INFERENCE + "ServerLive": Rule.PASSED,
    TORCHSERVE_OPEN_INFERENCE + "ModelReady": Rule.PASSED,
    TORCHSERVE_OPEN_INFERENCE + "ServerMetadata": Rule.PASSED,
    TORCHSERVE_OPEN_INFERENCE + "ModelMetadata": Rule.PASSED,
    **{
        TORCHSERVE_MANAGEMENT + name: Rule.DENIED_REPOSITORY_CONTROL
        for name in (
            "DescribeModel",
            "ListModels",
            "RegisterModel",
            "ScaleWorker",
            "SetDefault",
            "UnregisterModel",
        )
    },
}


def rule_of(method: str) -> Rule:
    """The rule for a method path such as ``/inference.GRPCInferenceService/ModelInfer``."""
    return RULES.get(method, Rule.UNSUPPORTED_UNKNOWN)
