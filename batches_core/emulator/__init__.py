"""An emulator of the Message Batches service, without I/O.

`Emulator.handle` accepts a request and the time, and returns a response. It does what the service
is known to do, including what makes clients difficult to write: a request with invalid `params`
does not fail the create, but becomes an errored result; the counts stay 0 until the batch ends; and
results are not in the order of the requests. A comment marks every behaviour that the service does
not document. The caller passes the time, and nothing is random, so a run can be repeated. A
`FaultPlan` injects faults.

`transports.emulator` serves the emulator over sockets. A test can also pass the requests of an
operation to `Emulator.handle` directly.
"""

from .answers import Responder, Result, answer, errored, succeeded
from .endpoints import Sale
from .fault_plan import FaultPlan
from .fault_rules import FaultRule
from .responses import Response
from .service import Emulator

__all__ = [
    "Emulator",
    "FaultPlan",
    "FaultRule",
    "Responder",
    "Response",
    "Result",
    "Sale",
    "answer",
    "errored",
    "succeeded",
]
