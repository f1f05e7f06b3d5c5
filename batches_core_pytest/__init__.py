"""A pytest plugin with the fixture `batches_emulator`; installing the package enables it.

    def test_a_pipeline(batches_emulator):
        batches_emulator.add_faults("create:status=529", "results:cut=1000,end=reset")
        with BatchesClient(**batches_emulator.client_arguments) as client:
            ...
        assert not batches_emulator.faults.unmet

Each test has a new emulator. It is so fast that a batch has ended when it is first polled. The
marker of the same name configures it. Its arguments are the parameters of `Emulator`, except that
`faults`, `fault_seed` and `fault_rate` are the rules, the seed and the rate of a `FaultPlan`::

    @pytest.mark.batches_emulator(speed=100, faults=["create:status=529"])

The fixture imports the emulator and its server (`transports.emulator`, extra ``h11``) when a test
uses it. The plugin is a package of its own because pytest imports it in every test run of an
environment: importing ``transports.…`` could import a project's own package of that name.
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

#: The default of the emulator's `speed` in a test.
_SPEED = 1e6
_KEY = "sk-of-the-emulator"
_HIDDEN = (
    "{path} hides the package transports of batches-core, which batches_emulator needs. A process "
    "can import only one package of a name: rename yours. Or, if no test imports it, keep its "
    "folder off sys.path with `pytest --import-mode=importlib` (not `python -m pytest`)."
)


class ClientArguments(TypedDict):
    """The arguments of a client that talks to the emulator, for ``Client(**arguments)``."""

    api_key: str
    base_url: str
    settling: SettlingPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesEmulator:
    """The value of the fixture: an emulator that is served at `base_url` while the test runs."""

    base_url: str
    emulator: Emulator

    @property
    def faults(self) -> FaultPlan:
        """The emulator's faults; `applied` and `unmet` say which were injected and which not."""
        return self.emulator.faults

    def add_faults(self, *rules: FaultRule | str) -> None:
        """Inject more faults from now on; `rules` are `FaultRule` objects or their texts.

        Raises:
            ValueError: a text is not a rule.
        """
        self.faults.add(*rules)

    @property
    def client_arguments(self) -> ClientArguments:
        """The arguments of a client that talks to this emulator.

        The times of `SettlingPolicy` are short, because the emulator lists a new batch at once: a
        create whose response is lost is settled within a second.
        """
        from batches_core import SettlingPolicy  # noqa: PLC0415 - not in every test run

        quick = SettlingPolicy(settle_time=1.0, alone=0.05, first_look=0.02, longest_look=0.1)
        return {"api_key": _KEY, "base_url": self.base_url, "settling": quick}

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which ``from_env()`` and the official SDKs talk to it."""
        return {"ANTHROPIC_API_KEY": _KEY, "ANTHROPIC_BASE_URL": self.base_url}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "batches_emulator(speed, parallel, seconds_per_request, responder, errored, api_keys, "
        "workspaces, organizations, ties, date_skew, queue_limit, requests_per_minute, faults, "
        "fault_seed, fault_rate): configures "
        "the emulator of the fixture batches_emulator.",
    )


@pytest.fixture
def batches_emulator(request: pytest.FixtureRequest) -> Iterator[BatchesEmulator]:
    """Serve an emulator of Claude's Message Batches API on the loopback address during a test."""
    # Imported here: pytest loads the plugin before it measures coverage, and also for test runs
    # without this fixture.
    advice = None
    try:
        from transports.emulator import running_emulator  # noqa: PLC0415 - see above
    except Exception as error:
        advice = _advise(error)
        if advice is None:
            raise
    if advice is not None:  # outside the handler, so that pytest shows the advice alone
        pytest.fail(advice, pytrace=False)
    emulator = _make(request.node.get_closest_marker("batches_emulator"))
    with running_emulator(emulator) as base_url:
        yield BatchesEmulator(base_url=base_url, emulator=emulator)


def _advise(error: Exception) -> str | None:
    """Return what to do about a failed import of the server, or None if the cause is unknown."""
    spec = importlib.util.find_spec("transports")
    found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
    ours = Path(__file__).resolve().parents[1] / "transports" / "__init__.py"
    if found not in {None, ours}:
        return _HIDDEN.format(path=found)
    if isinstance(error, ModuleNotFoundError) and error.name == "h11":
        return "batches_emulator needs h11: pip install 'batches-core[h11]'"
    return None


def _make(marker: pytest.Mark | None) -> Emulator:
    from batches_core.emulator import Emulator, FaultPlan  # noqa: PLC0415 - not in every test run

    options: dict[str, Any] = {"speed": _SPEED}
    if marker is not None:
        if marker.args:
            message = f"the marker batches_emulator takes only keyword arguments, not {marker.args}"
            pytest.fail(message, pytrace=False)
        options.update(marker.kwargs)
    try:
        rules = options.pop("faults", ())
        names = {"seed": "fault_seed", "rate": "fault_rate"}
        chosen = {to: options.pop(name) for to, name in names.items() if name in options}
        rules = [rules] if isinstance(rules, str) else rules
        return Emulator(**options, faults=FaultPlan(*rules, **chosen))
    except (TypeError, ValueError) as error:
        pytest.fail(f"the marker batches_emulator: {error}", pytrace=False)
