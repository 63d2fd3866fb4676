"""Whether the native transport is there, and is the one that belongs to us. The only module that imports it.

Absent is one thing, broken another: what is installed and cannot be used keeps the sidecar from starting, for nobody
would notice how much slower everything had become.
"""

import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING, Final

from sidecar.config import TransportChoice
from sidecar.errors import OperationError
from sidecar.proxy.native_tables import TABLE_FORMAT
from sidecar.proxy.unix_sockets import SCHEME

if TYPE_CHECKING:
    from gate_sidecar_native import Call as Call
    from gate_sidecar_native import Outcome as Outcome
    from gate_sidecar_native import Transport as Transport

_MODULE: Final = "gate_sidecar_native"

_INSTALL: Final = "install the one that belongs to this sidecar (make native in its clone), or take transport portable"


def load(choice: TransportChoice, listen: str) -> "type[Transport] | None":
    """The native transport, where it is to carry the calls.

    On Unix sockets that is only where it is asked for: gRPC's own library names the socket's path as the authority of
    its calls, escaped, and the HTTP/2 library of the native transport takes that for no authority at all.

    Raises:
        OperationError: it is asked for and not installed; or it is installed, not ruled out, and not usable.
    """
    if choice is TransportChoice.PORTABLE or (choice is TransportChoice.AUTO and listen.startswith(SCHEME)):
        return None
    if importlib.util.find_spec(_MODULE) is None:
        if choice is TransportChoice.NATIVE:
            raise OperationError(f"transport is native, and {_MODULE} is not installed; {_INSTALL}")
        return None
    try:
        import gate_sidecar_native
    except ImportError as error:
        raise OperationError(f"the native transport is installed and cannot be loaded: {error}; {_INSTALL}") from error
    require_same(gate_sidecar_native.VERSION, gate_sidecar_native.TABLE_FORMAT)
    return gate_sidecar_native.Transport


def require_same(native_version: str, table_format: str) -> None:
    """Compare what is installed with what belongs to us.

    Raises:
        OperationError: it is another version, or takes other tables.
    """
    found, ours = (native_version, table_format), (importlib.metadata.version("gate-sidecar"), TABLE_FORMAT)
    if found != ours:
        raise OperationError(
            f"the native transport that is installed has version and table format {' and '.join(found)}, this sidecar "
            f"{' and '.join(ours)}; {_INSTALL}"
        )
