"""The command line ``python -m transports.emulator``.

`FaultRule.parse` defines the syntax of ``--fault``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys

from batches_core.emulator import Emulator, FaultPlan, FaultRule

from .server import EmulatorServer

#: The default of ``--fault-rate``.
_FAULT_RATE = 0.1


def main(arguments: list[str] | None = None) -> int:
    """Run the command: serve an emulator until interrupted.

    `arguments` are by default those of the process. The exit code is 0 after an interruption and
    1 if the address cannot be bound; a usage error exits with 2.
    """
    parser = _make_parser()
    options = parser.parse_args(arguments)
    emulator = _make_emulator(parser, options)
    log = functools.partial(print, file=sys.stderr, flush=True) if options.verbose else None
    try:
        server = EmulatorServer(
            emulator,
            host=options.host,
            port=options.port,
            public_url=options.public_url,
            log=log,
        )
    except ValueError as error:
        parser.error(f"--public-url: {error}")
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        print(f"cannot listen on {options.host}:{options.port}: {why}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(server.base_url, flush=True)  # noqa: T201 - a command
    print("accepts any API key; interrupt to stop", file=sys.stderr, flush=True)  # noqa: T201 - a command
    with contextlib.suppress(KeyboardInterrupt):
        server.serve()
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transports.emulator",
        description="Serve an emulator of the Message Batches API, with all data in memory. "
        "The first line of the output is its base URL.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the port to listen on (default: 0, any free one)"
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="process batches this many times faster (default: %(default)s)",
    )
    parser.add_argument(
        "--fault",
        metavar="RULE",
        dest="faults",
        action="append",
        default=[],
        type=_parse_fault,
        help="inject a fault, such as create:status=503,retry_after=1,times=2 or "
        "results:cut=1000,end=reset; can be repeated",
    )
    parser.add_argument(
        "--fault-seed",
        type=int,
        metavar="N",
        help="inject temporary faults into some requests; this number decides into which",
    )
    parser.add_argument(
        "--fault-rate",
        type=float,
        metavar="SHARE",
        help="the share of the requests that get a fault of --fault-seed, from 0 to 1 "
        f"(default: {_FAULT_RATE})",
    )
    parser.add_argument(
        "--errored",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="the share of the requests of each batch that end as errored, from 0 to 1 (default: "
        "0); for expired ones use --fault create:expired=SHARE,times=always",
    )
    parser.add_argument(
        "--queue-limit",
        type=int,
        metavar="N",
        help="refuse a batch with a 429 if more than N requests would wait to be processed",
    )
    parser.add_argument(
        "--requests-per-minute",
        type=int,
        metavar="N",
        help="refuse HTTP requests beyond N per minute with a 429",
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="the origin that clients use if a proxy is in front, such as https://host:8443",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="log each request to stderr, without secrets"
    )
    return parser


def _parse_fault(text: str) -> FaultRule:
    try:
        return FaultRule.parse(text)
    except ValueError as error:
        # argparse shows the message of this error only.
        raise argparse.ArgumentTypeError(str(error)) from None


def _make_emulator(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Emulator:
    if not options.speed > 0:
        parser.error(f"--speed must be more than 0, not {options.speed}")
    if options.fault_rate is not None and options.fault_seed is None:
        parser.error("--fault-rate needs --fault-seed")
    rate = _FAULT_RATE if options.fault_rate is None else options.fault_rate
    if not 0 <= rate <= 1:
        parser.error(f"--fault-rate must be a share from 0 to 1, not {rate}")
    if not 0 <= options.errored <= 1:
        parser.error(f"--errored must be a share from 0 to 1, not {options.errored}")
    faults = FaultPlan(*options.faults, seed=options.fault_seed, rate=rate)
    for name in ("queue_limit", "requests_per_minute"):
        if (limit := getattr(options, name)) is not None and limit < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, not {limit}")
    return Emulator(
        speed=options.speed,
        faults=faults,
        errored=options.errored,
        queue_limit=options.queue_limit,
        requests_per_minute=options.requests_per_minute,
    )
