"""All scenarios, by the names under which the table shows them."""

from tests.drill.certificate_faults import (
    client_certificate_expires,
    own_certificate_expires,
    upstream_certificate_expires,
)
from tests.drill.harness import Scenario
from tests.drill.model_faults import fp16, model_of_another_shape, model_swapped, tf32
from tests.drill.process_faults import frozen, killed, restarted
from tests.drill.surrounding_faults import clock_jump, disk_full, log_reader_stopped
from tests.drill.wire_faults import not_a_number, reset, slow, trickling, truncated_protobuf, wrong_shapes

SCENARIOS: dict[str, Scenario] = {
    "kill -9": killed,
    "SIGSTOP": frozen,
    "restart": restarted,
    "slow": slow,
    "trickling": trickling,
    "reset mid-answer": reset,
    "wrong shapes": wrong_shapes,
    "truncated protobuf": truncated_protobuf,
    "NaN": not_a_number,
    "model swapped": model_swapped,
    "model of another shape": model_of_another_shape,
    "disk full": disk_full,
    "log reader stopped": log_reader_stopped,
    "clock jump": clock_jump,
    "own certificate ends": own_certificate_expires,
    "upstream's cert. ends": upstream_certificate_expires,
    "client's cert. ends": client_certificate_expires,
    "TF32": tf32,
    "FP16": fp16,
}
