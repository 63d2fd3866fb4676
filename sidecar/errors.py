"""Whose fault it was: the error types and the closed list of reason codes.

The type of an error says who has to act: the caller, whoever made the bundle, the upstream, or us.
The reason code is what clients, metrics, audit records and tests see; it is stable, the message is not.
Messages say what was got, what was expected, where, and what to do about it.

Offline commands raise the three error types at the end of this module, one for each exit code that
means failure; request-time code never raises those.
"""

import enum
from typing import ClassVar


class Reason(enum.StrEnum):
    """Why something was refused, failed or could not be done. A closed list, used as a metric label."""

    # The caller's request.
    MALFORMED_REQUEST = "malformed_request"
    MODEL_NOT_GUARDED = "model_not_guarded"
    METHOD_DENIED = "method_denied"
    METHOD_UNSUPPORTED = "method_unsupported"
    MESSAGE_TOO_LARGE = "message_too_large"
    TOO_MANY_CALLS = "too_many_calls"
    MEMORY_EXHAUSTED = "memory_exhausted"
    TOO_MANY_CORRECTIONS = "too_many_corrections"
    STREAM_IDLE = "stream_idle"
    SLOW_REQUEST = "slow_request"
    PYTHON_LANE_FULL = "python_lane_full"
    INPUT_MISSING = "input_missing"
    INPUT_DUPLICATE = "input_duplicate"
    INPUT_DATATYPE = "input_datatype"
    INPUT_SHAPE = "input_shape"
    INPUT_CONTENTS = "input_contents"
    INPUT_NOT_FINITE = "input_not_finite"
    OUTPUT_UNKNOWN = "output_unknown"
    SHARED_MEMORY = "shared_memory"
    CLASSIFICATION = "classification"
    OUTSIDE_DOMAIN = "outside_domain"

    # What a gate decided.
    GATE_REFUSED = "gate_refused"
    OUTPUT_NOT_FINITE = "output_not_finite"
    CORRECTION_FAILED = "correction_failed"

    # The upstream's answer.
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_DEADLINE = "upstream_deadline"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_MALFORMED = "upstream_malformed"
    UPSTREAM_UNCORRELATED = "upstream_uncorrelated"
    UPSTREAM_OUTPUT_MISSING = "upstream_output_missing"
    UPSTREAM_OUTPUT_DATATYPE = "upstream_output_datatype"
    UPSTREAM_OUTPUT_SHAPE = "upstream_output_shape"
    UPSTREAM_OUTPUT_CONTENTS = "upstream_output_contents"
    UPSTREAM_UNMATCHED = "upstream_unmatched"

    # Acceptance and activation of a gate bundle, in the order in which the steps run.
    BUNDLE_UNREADABLE = "bundle_unreadable"
    BUNDLE_TOO_LARGE = "bundle_too_large"
    BUNDLE_MAGIC = "bundle_magic"
    BUNDLE_VERSION = "bundle_version"
    BUNDLE_TRUNCATED = "bundle_truncated"
    BUNDLE_DIGEST = "bundle_digest"
    BUNDLE_UNSIGNED = "bundle_unsigned"
    BUNDLE_SIGNATURE = "bundle_signature"
    BUNDLE_SECTIONS = "bundle_sections"
    BUNDLE_MANIFEST = "bundle_manifest"
    BUNDLE_GATES = "bundle_gates"
    BUNDLE_COVERAGE = "bundle_coverage"
    BUNDLE_VECTORS = "bundle_vectors"
    BUNDLE_SOURCES = "bundle_sources"
    BUNDLE_SELF_TEST = "bundle_self_test"
    BUNDLE_CERTIFICATE = "bundle_certificate"
    BUNDLE_PROBE = "bundle_probe"
    BUNDLE_EXPIRED = "bundle_expired"
    BUNDLE_CONFLICT = "bundle_conflict"
    BUNDLE_ROLLBACK = "bundle_rollback"

    # The settings file, when it is read again.
    SETTINGS_UNREADABLE = "settings_unreadable"
    SETTINGS_INVALID = "settings_invalid"
    SETTINGS_NEED_RESTART = "settings_need_restart"

    # Ourselves.
    NOT_READY = "not_ready"
    STOPPING = "stopping"
    INTERNAL = "internal"


class SidecarError(Exception):
    """Base of all errors that a person or a client is told about."""


class RequestError(SidecarError):
    """An error with a reason code, raised where a request or a bundle is handled.

    Args:
        reason: the stable code.
        message: got, expected, where, and what to do; it may reach a log, never the client verbatim
            where it would show details of the upstream.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class CallerError(RequestError):
    """The request cannot be accepted as it is. Nothing was forwarded."""


class BundleError(RequestError):
    """The gate bundle cannot be accepted or activated. The previous one, if any, stays active."""


class UpstreamError(RequestError):
    """The upstream is down, too slow, or answered something that cannot be judged."""


class InternalError(RequestError):
    """A defect of ours. Always fails closed."""


class CommandError(SidecarError):
    """An offline command ends here; ``exit_code`` is the process's exit status (DESIGN section 8)."""

    exit_code: ClassVar[int]


class NegativeAnswer(CommandError):
    """The command worked and the answer is no: contradictory properties, a failed check, VIOLATED."""

    exit_code = 1


class InputError(CommandError):
    """Used wrongly, or an input file cannot be read or understood."""

    exit_code = 2


class OperationError(CommandError):
    """The surroundings failed: upstream down, disk full, port in use."""

    exit_code = 3
