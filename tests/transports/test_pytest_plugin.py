"""The fixture `batches_emulator`, used directly and in test suites that a test runs."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from batches_core import APIStatusError, AuthenticationError, RetryPolicy
from batches_core.emulator import Emulator, FaultRule, errored
from batches_core_pytest import BatchesEmulator
from tests.support.playbook import REQUEST
from transports.h11 import BatchesClient

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def refuse(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
    del params
    return errored("overloaded_error", f"not {custom_id}")


def statuses(client: BatchesClient, count: int) -> list[int]:
    found = []
    for _ in range(count):
        try:
            client.list()
            found.append(200)
        except APIStatusError as error:
            found.append(error.status)
    return found


def test_a_batch_of_the_fixture_has_ended_when_it_is_first_polled(
    batches_emulator: BatchesEmulator,
) -> None:
    with BatchesClient(**batches_emulator.client_arguments) as client:
        batch = client.create([{**REQUEST, "custom_id": f"r{number}"} for number in range(200)])
        assert not batch.ended
        assert client.get(batch.id).ended
        assert len(client.results(batch.id)) == 200
    assert batches_emulator.faults.applied == []


def test_add_faults_injects_faults_while_the_emulator_serves(
    batches_emulator: BatchesEmulator,
) -> None:
    once = RetryPolicy(attempts=1)
    with BatchesClient(**batches_emulator.client_arguments, retry=once) as client:
        assert statuses(client, 1) == [200]
        batches_emulator.add_faults("list:status=529", FaultRule(route="list", status=500))
        assert statuses(client, 3) == [529, 500, 200]
    assert batches_emulator.faults.applied == ["list:status=529", "list:status=500"]
    assert batches_emulator.faults.unmet == []


def test_client_arguments_settle_a_lost_create_within_a_second(
    batches_emulator: BatchesEmulator,
) -> None:
    batches_emulator.add_faults("create:drop=after")
    with BatchesClient(**batches_emulator.client_arguments) as client:
        batch = client.create([REQUEST], if_unknown="settle")
        assert client.list().data[0].id == batch.id
    assert batches_emulator.client_arguments["settling"].alone < 1


def test_environment_configures_a_client_made_by_from_env(
    batches_emulator: BatchesEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in batches_emulator.environment.items():
        monkeypatch.setenv(name, value)
    with BatchesClient.from_env() as client:
        assert client.list().data == []


@pytest.mark.batches_emulator(responder=refuse, api_keys=["one"], faults=["list:status=404"])
def test_a_marker_sets_responder_api_keys_and_faults(batches_emulator: BatchesEmulator) -> None:
    with BatchesClient(api_key="other", base_url=batches_emulator.base_url) as client:
        assert statuses(client, 2) == [404, 401]
        with pytest.raises(AuthenticationError):
            client.list()
    with BatchesClient(api_key="one", base_url=batches_emulator.base_url) as client:
        batch = client.create([REQUEST])
        assert client.get(batch.id).request_counts.errored == 1


@pytest.mark.batches_emulator(speed=1)
def test_a_marker_sets_the_speed(batches_emulator: BatchesEmulator) -> None:
    with BatchesClient(**batches_emulator.client_arguments) as client:
        assert not client.get(client.create([REQUEST]).id).ended


@pytest.mark.batches_emulator(faults="list:status=529", fault_seed=1, fault_rate=1)
def test_a_marker_sets_a_fault_seed_and_rate(batches_emulator: BatchesEmulator) -> None:
    policy = RetryPolicy(attempts=1)
    with BatchesClient(**batches_emulator.client_arguments, retry=policy) as client:
        assert statuses(client, 1) == [529]
    faults = batches_emulator.faults
    assert faults.applied == ["list:status=529"]
    assert all(faults.for_request("list") for _ in range(10))


# --- in the test suite of another project ----------------------------------------------


def test_each_test_has_a_new_emulator(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from transports.h11 import BatchesClient

        REQUEST = {"custom_id": "a", "params": {"model": "claude-x", "max_tokens": 5,
                   "messages": [{"role": "user", "content": "?"}]}}

        @pytest.mark.parametrize("turn", [1, 2])
        def test_one(batches_emulator, turn):
            with BatchesClient(**batches_emulator.client_arguments) as client:
                assert client.list().data == []
                client.create([REQUEST])

        @pytest.mark.parametrize("fault", [
            pytest.param(rule, marks=pytest.mark.batches_emulator(faults=[rule]))
            for rule in ("create:status=529", "create:drop=before")
        ])
        def test_marked(batches_emulator, fault):
            assert str(batches_emulator.faults.unmet[0]) == fault
        """
    )
    pytester.runpytest_inprocess("--strict-markers", "-p", "no:cacheprovider").assert_outcomes(
        passed=4
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("'create:status=529'", "the marker batches_emulator takes only keyword arguments"),
        ("faults=['create:statsu=529']", "unknown field 'statsu'"),
        ("fault_rate=3", "rate must be a share from 0 to 1, not 3"),
        ("spede=3", "unexpected keyword argument 'spede'"),
        ("speed=0", "speed must be more than 0, not 0"),
    ],
)
def test_an_invalid_marker_fails_the_test_with_a_message(
    pytester: pytest.Pytester, marker: str, message: str
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.batches_emulator({marker})
        def test_it(batches_emulator):
            pass
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{message}*"])


def test_the_plugin_imports_nothing_if_no_test_uses_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(request):
            assert request.config.pluginmanager.has_plugin("batches_core")
            assert not {"batches_core", "h11", "msgspec"} & set(sys.modules)
        """
    )
    done = pytester.run(
        sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "-p", "no:trio"
    )
    assert done.ret == 0, done.outlines


def test_without_h11_the_fixture_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        h11="raise ModuleNotFoundError('No module named h11', name='h11')",
        test_it="def test_it(batches_emulator):\n    pass",
    )
    done = pytester.run(sys.executable, "-m", "pytest")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*batches_emulator needs h11: pip install 'batches-core?h11?'*"])


def test_another_missing_module_is_not_reported_as_h11(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        h11="import something_that_is_missing",
        test_it="def test_it(batches_emulator):\n    pass",
    )
    done = pytester.run(sys.executable, "-m", "pytest")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*No module named 'something_that_is_missing'*"])
    done.stdout.no_fnmatch_line("*needs h11*")


def test_the_markers_help_lists_every_parameter() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--markers"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    listed = done.stdout.partition("@pytest.mark.batches_emulator(")[2].partition("):")[0]
    parameters = set(inspect.signature(Emulator).parameters)
    assert set(listed.split(", ")) == parameters | {"fault_seed", "fault_rate"}


# --- in a project whose own `transports` hides ours ------------------------------------

USES_IT = "def test_it(batches_emulator):\n    assert batches_emulator.base_url\n"
USES_IT_NOT = "import transports\n\ndef test_it():\n    assert transports.OWN\n"


def project(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def run_in(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a test suite as its user does: in its folder, with the installed package only."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST")}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, *command, "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=root,
        env=environment,
    )


@pytest.mark.parametrize(
    "hiding",
    [
        {"transports/__init__.py": "OWN = True"},
        {"transports.py": "OWN = True"},
        {"transports/__init__.py": "OWN = True", "transports/emulator.py": ""},
        {"transports/__init__.py": "OWN = True", "transports/pytest_plugin.py": "1 / 0"},
    ],
    ids=["package", "module", "with an emulator", "with a plugin"],
)
def test_a_project_with_its_own_transports_package_can_run_its_tests(
    tmp_path: Path, hiding: dict[str, str]
) -> None:
    root = project(tmp_path, {**hiding, "test_own.py": USES_IT_NOT})
    done = run_in(root, "-m", "pytest")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    "hiding",
    [
        {"transports/__init__.py": ""},
        {"transports.py": ""},
        {"transports/__init__.py": "", "transports/emulator.py": ""},
        {"transports/__init__.py": "raise RuntimeError('not here')"},
    ],
    ids=["package", "module", "with an emulator", "that raises"],
)
def test_the_fixture_says_which_module_hides_its_package_and_what_to_do(
    tmp_path: Path, hiding: dict[str, str]
) -> None:
    other = "def test_other():\n    pass\n"
    root = project(tmp_path, {**hiding, "tests/test_own.py": USES_IT + "\n\n" + other})
    done = run_in(root, "-m", "pytest")
    assert done.returncode == 1
    assert "1 passed, 1 error" in done.stdout
    assert str((root / next(iter(hiding))).resolve()) in done.stdout
    assert "hides the package transports of batches-core" in done.stdout
    assert "During handling" not in done.stdout
    assert done.stderr == ""
    # Following the advice helps.
    assert "pytest --import-mode=importlib" in done.stdout
    script = Path(sys.executable).with_name("pytest")
    done = run_in(root, str(script), "--import-mode=importlib")
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_transports_folder_without_an_init_hides_nothing(tmp_path: Path) -> None:
    root = project(tmp_path, {"transports/notes.txt": "", "test_own.py": USES_IT})
    done = run_in(root, "-m", "pytest")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_importing_the_plugin_imports_only_pytest_and_the_standard_library(
    tmp_path: Path,
) -> None:
    (plugin,) = entry_points(group="pytest11", name="batches_core")
    program = f"""
import sys
import pytest
known = set(sys.modules)
import {plugin.module}
new = {{name.partition(".")[0] for name in set(sys.modules) - known}}
assert new <= sys.stdlib_module_names | {{"{plugin.module}"}}, new
"""
    done = run_in(tmp_path, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_distribution_contains_the_plugin_and_is_typed() -> None:
    root = Path(__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    module = settings["project"]["entry-points"]["pytest11"]["batches_core"]
    targets = settings["tool"]["hatch"]["build"]["targets"]
    assert module in targets["wheel"]["packages"]
    assert f"/{module}" in targets["sdist"]["include"]
    assert module in settings["tool"]["mypy"]["files"]
    for package in targets["wheel"]["packages"]:
        assert f"/{package}" in targets["sdist"]["include"]
        assert (root / package / "py.typed").is_file()
