"""The messages of gRPC server reflection, and the descriptions of services that it hands out.

Our message types stand in packages of our own (see protos/); what is handed out says the packages that clients know.

Source: the gRPC server reflection protocol; google/protobuf/descriptor.proto.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from sidecar.errors import CallerError, Reason
from sidecar.protocols.generated import health_pb2, open_inference_pb2
from sidecar.protocols.generated import reflection_pb2 as pb

INFERENCE_MESSAGES: Final[FileDescriptor] = open_inference_pb2.DESCRIPTOR
HEALTH_MESSAGES: Final[FileDescriptor] = health_pb2.DESCRIPTOR
REFLECTION_MESSAGES: Final[FileDescriptor] = pb.DESCRIPTOR


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of a service; ``asks`` and ``answers`` are message names in the service's package."""

    name: str
    asks: str
    answers: str
    client_streams: bool = False
    server_streams: bool = False


@dataclasses.dataclass(frozen=True)
class Service:
    """A service to describe.

    Args:
        file: the name of the .proto file that it is said to stand in.
        package: that clients know.
        name: without the package.
        messages: ours.
        methods: at least one.
    """

    file: str
    package: str
    name: str
    messages: FileDescriptor
    methods: Sequence[Method]

    @property
    def full_name(self) -> str:
        """As in method paths."""
        return f"{self.package}.{self.name}"


class Catalogue:
    """Answers questions about services."""

    def __init__(self, services: Iterable[Service]) -> None:
        files = {service.full_name: _file(service) for service in services}
        self._services: Final = tuple(files)
        self._files: Final[Mapping[str, bytes]] = {file.name: file.SerializeToString() for file in files.values()}
        self._symbols: Final[Mapping[str, str]] = {
            symbol: file.name for file in files.values() for symbol in _symbols(file)
        }

    def answer(self, request: bytes) -> bytes:
        """One response to one request.

        Raises:
            CallerError: the bytes are no such message.
        """
        try:
            asked = pb.ServerReflectionRequest.FromString(request)
        except DecodeError as error:
            raise CallerError(Reason.MALFORMED_REQUEST, "the message is no ServerReflectionRequest") from error
        answer = pb.ServerReflectionResponse(valid_host=asked.host, original_request=asked)
        match asked.WhichOneof("message_request"):
            case "list_services":
                answer.list_services_response.service.extend(pb.ServiceResponse(name=name) for name in self._services)
            case "file_by_filename":
                self._put_file(answer, asked.file_by_filename)
            case "file_containing_symbol":
                self._put_file(answer, self._symbols.get(asked.file_containing_symbol, ""))
            case _:  # our messages have no extensions
                _put_error(answer, grpc.StatusCode.NOT_FOUND, "no such extension here")
        return answer.SerializeToString()

    def _put_file(self, answer: pb.ServerReflectionResponse, name: str) -> None:
        if name in self._files:
            answer.file_descriptor_response.file_descriptor_proto.append(self._files[name])
        else:
            _put_error(answer, grpc.StatusCode.NOT_FOUND, "no such file or symbol here")


def _put_error(answer: pb.ServerReflectionResponse, code: grpc.StatusCode, text: str) -> None:
    answer.error_response.error_code = code.value[0]
    answer.error_response.error_message = text


def _file(service: Service) -> FileDescriptorProto:
    file = FileDescriptorProto()
    service.messages.CopyToProto(file)
    for message in file.message_type:
        _rename(message, f".{file.package}.", f".{service.package}.")
    file.name, file.package = service.file, service.package
    described = file.service.add(name=service.name)
    for method in service.methods:
        described.method.add(
            name=method.name,
            input_type=f".{service.package}.{method.asks}",
            output_type=f".{service.package}.{method.answers}",
            client_streaming=method.client_streams,
            server_streaming=method.server_streams,
        )
    return file


def _rename(message: DescriptorProto, ours: str, theirs: str) -> None:
    for field in message.field:
        if field.type_name.startswith(ours):
            field.type_name = theirs + field.type_name.removeprefix(ours)
    for nested in message.nested_type:
        _rename(nested, ours, theirs)


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """All names that a client may ask for: services, methods, messages; nested ones too."""
    for service in file.service:
        yield f"{file.package}.{service.name}"
        yield from (f"{file.package}.{service.name}.{method.name}" for method in service.method)
    for message in file.message_type:
        yield from _names(message, file.package)


def _names(message: DescriptorProto, scope: str) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield name
    yield from (f"{name}.{enum.name}" for enum in message.enum_type)
    for nested in message.nested_type:
        yield from _names(nested, name)
