"""An emulator of the Message Batches service, without I/O.

`Emulator.handle` turns a request and the time into a response. It behaves as the service does as
far as that is known, in inconvenient ways too: invalid `params` become errored results instead of
refusing the create, the counts stay 0 until the batch ends, and results are not in the order of
the requests. A comment marks every behaviour that the service does not document. The caller passes
the time, and nothing is random, so a run can be repeated. A `FaultPlan` injects faults.

`transports.emulator` serves the emulator over sockets. A test can also pass the requests of an
operation to `Emulator.handle` directly.
"""

from .answers import Responder, Result, answer, errored, succeeded
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
    "answer",
    "errored",
    "succeeded",
]
