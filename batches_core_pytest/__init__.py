"""A pytest plugin: the fixture `batches_emulator`, which every test has once this is installed.

    def test_a_pipeline(batches_emulator):
        batches_emulator.add_faults("create:status=529", "results:cut=1000,end=reset")
        with BatchesClient(**batches_emulator.client_arguments) as client:
            ...
        assert not batches_emulator.faults.unmet

The emulator is new for each test, and so fast that a batch has ended when it is first asked for.
A marker tells it otherwise, with the parameters of `Emulator`, and `faults`, `fault_seed` and
`fault_rate`::

    @pytest.mark.batches_emulator(speed=100, faults=["create:status=529"])

Knows pytest; the emulator and its server are imported only where the fixture is used, which needs
the extra ``h11``. It is a package of its own because pytest imports it in every test run of an
environment: a project's own ``transports``, which may come first, must not hide it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

if TYPE_CHECKING:
    from batches_core import SettlingPolicy
    from batches_core.emulator import Emulator, FaultPlan, FaultRule

#: How many times faster than by default the emulator works.
_SPEED = 1e6
_KEY = "sk-of-the-emulator"
_HIDDEN = (
    "{path} hides the package transports of batches-core, which batches_emulator needs. One "
    "process can import one package of a name: rename yours, or, if no test imports it, keep its "
    "folder off sys.path with `pytest --import-mode=importlib` (not `python -m pytest`)."
)


class ClientArguments(TypedDict):
    """What a client takes to talk to the emulator, as ``**arguments``."""

    api_key: str
    base_url: str
    settling: SettlingPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesEmulator:
    """An emulator that serves at `base_url` while a test runs."""

    base_url: str
    emulator: Emulator

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong on purpose, and what of it did: `applied` and `unmet`."""
        return self.emulator.faults

    def add_faults(self, *rules: FaultRule | str) -> None:
        """Let something go wrong from now on: rules, as objects or as text.

        Raises:
            ValueError: one is no rule.
        """
        self.faults.add(*rules)

    @property
    def client_arguments(self) -> ClientArguments:
        """What a client takes to talk to it.

        The times of settling are short, for the emulator's list shows a batch at once: a create
        whose answer is lost is settled within a second.
        """
        from batches_core import SettlingPolicy  # noqa: PLC0415 - not in every test run

        quick = SettlingPolicy(settle_time=1.0, alone=0.05, first_look=0.02, longest_look=0.1)
        return {"api_key": _KEY, "base_url": self.base_url, "settling": quick}

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which ``from_env()``, and the official SDKs, talk to it."""
        return {"ANTHROPIC_API_KEY": _KEY, "ANTHROPIC_BASE_URL": self.base_url}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "batches_emulator(speed, parallel, seconds_per_request, responder, errored, api_keys, "
        "workspaces, organizations, ties, date_skew, faults, fault_seed, fault_rate): how the "
        "emulator of the fixture batches_emulator behaves.",
    )


@pytest.fixture
def batches_emulator(request: pytest.FixtureRequest) -> Iterator[BatchesEmulator]:
    """Serve an emulator of Claude's Message Batches API on loopback, for one test."""
    # pytest loads plugins before it measures coverage, and for tests that do not need them.
    advice = None
    try:
        from transports.emulator import running_emulator  # noqa: PLC0415
    except Exception as error:
        advice = _advise(error)
        if advice is None:
            raise
    if advice is not None:  # out of the handler, so that the advice is all that is shown
        pytest.fail(advice, pytrace=False)
    emulator = _make(request.node.get_closest_marker("batches_emulator"))
    with running_emulator(emulator) as base_url:
        yield BatchesEmulator(base_url=base_url, emulator=emulator)


def _advise(error: Exception) -> str | None:
    """Tell what to do where the server could not be imported, if that is known."""
    spec = importlib.util.find_spec("transports")
    found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
    ours = Path(__file__).resolve().parents[1] / "transports" / "__init__.py"
    if found not in {None, ours}:
        return _HIDDEN.format(path=found)
    if isinstance(error, ModuleNotFoundError) and error.name == "h11":
        return "batches_emulator needs h11: pip install 'batches-core[h11]'"
    return None


def _make(marker: pytest.Mark | None) -> Emulator:
    from batches_core.emulator import Emulator, FaultPlan  # noqa: PLC0415 - as above

    options: dict[str, Any] = {"speed": _SPEED}
    if marker is not None:
        if marker.args:
            pytest.fail("the marker batches_emulator takes named parameters", pytrace=False)
        options.update(marker.kwargs)
    try:
        rules = options.pop("faults", ())
        given = {"seed": "fault_seed", "rate": "fault_rate"}
        chosen = {to: options.pop(name) for to, name in given.items() if name in options}
        rules = [rules] if isinstance(rules, str) else rules
        return Emulator(**options, faults=FaultPlan(*rules, **chosen))
    except (TypeError, ValueError) as error:
        pytest.fail(f"the marker batches_emulator: {error}", pytrace=False)
