"""The other side: a Message Batches service without I/O.

`Emulator.handle` takes a request and the time and gives a response. It behaves as the service
does as far as that is known, including what is awkward: some faults of a batch are told at once
and others as results, the counts stay 0 until the end, results come out of order. What is not
documented is said so where it is decided. Its clock is the caller's; it has no randomness, so a
run can be repeated. What goes wrong on purpose is told to it as a `FaultPlan`.

`transports.emulator` serves it over sockets; in a test it can be called directly with the
requests of an operation.
"""

from .faults import FaultPlan, FaultRule
from .replies import Responder, Result, answer, errored, succeeded
from .service import Emulator, Response

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
