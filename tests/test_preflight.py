"""Pre-flight: OK or FAIL with the mend, for people and for programs."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from helpers import preflight
from helpers.files import REPOSITORY
from helpers.training.profiles import PROFILES, get_profile


def run_preflight(*arguments, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-m", "helpers.preflight", *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10, 13), False), ((3, 11, 0), True), ((3, 13, 1), True), ((3, 14, 0), False)]
)
def test_python_versions(version, ok):
    assert preflight.python_check(version).ok is ok


def test_pins_are_read_with_their_markers(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text('a.b==1.2  # why\n# c==1\nnew==2; python_version < "3.12"\nold==3; python_version < "3.5"\n')
    expected = {"a.b": "1.2"} | ({"new": "2"} if sys.version_info < (3, 12) else {})
    assert preflight.read_pins(file) == expected


def test_a_wrong_and_a_missing_package_are_named(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("pytest==0.0.1\nno-such-package-at-all==1.0\n")
    check = preflight.packages_check(file)
    assert not check.ok and "make setup" in check.mend
    assert f"pytest {preflight.installed('pytest')} (pinned 0.0.1)" in check.found
    assert "no-such-package-at-all missing (pinned 1.0)" in check.found


def test_a_trainiums_environment_is_held_against_its_own_pins(monkeypatch):
    """The workshop's would put another torch over the one that drives the cores."""
    trainium = preflight.read_pins(REPOSITORY / "requirements-neuron.txt")
    monkeypatch.setattr(preflight, "installed", lambda name: trainium.get(name, "missing"))
    assert preflight.packages_check().ok and len(trainium) > 20
    monkeypatch.setitem(trainium, "torch", "2.13.0")
    check = preflight.packages_check()
    assert not check.ok and check.found == "torch 2.13.0 (pinned 2.8.0)"
    assert check.mend == "pip install -r requirements-neuron.txt"


def test_this_environment_is_the_pinned_one():
    assert preflight.packages_check().ok, preflight.packages_check().found


@pytest.mark.parametrize(("profile", "enough"), [("smoke", 2), ("laptop", 6)])
def test_too_little_memory_or_disk_says_what_to_do(profile, enough):
    """What a profile needs is its own: a toy run is not refused for want of a real one's disk."""
    memory, disk = preflight.memory_check(profile, 2**29), preflight.disk_check(profile, 2**29)
    for check, mend in ((memory, "close other programs"), (disk, "make clean")):
        assert not check.ok and mend in check.mend and str(check).startswith("FAIL") and mend in str(check)
    assert ("PROFILE=smoke" in memory.mend) is (profile == "laptop")
    assert preflight.memory_check(profile, enough * 2**30).ok and preflight.disk_check(profile, enough * 2**30).ok
    assert preflight.disk_check("laptop", 2 * 2**30).ok is False


def test_the_checks_are_those_of_the_profile(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * 2**30))
    monkeypatch.setenv("PROFILE", "laptop")
    passed = {name: {check.name: check.ok for check in preflight.checks(get_profile(name))} for name in PROFILES}
    assert passed["smoke"]["disk"] and not passed["laptop"]["disk"]
    assert "6 needed" in str(preflight.checks()[3])


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_RUNS", str(tmp_path / "deep" / "runs"))
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path != tmp_path)
    check = preflight.writable_check()
    assert not check.ok and tmp_path.name in check.found and "WORKSHOP_RUNS" in check.mend


def test_a_model_folder_that_is_missing_is_found_out_without_network(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "hub_reachable", lambda: False)
    monkeypatch.setenv("WORKSHOP_MODEL", str(tmp_path / "nowhere"))
    assert not preflight.model_check().ok
    monkeypatch.delenv("WORKSHOP_MODEL")
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    assert "not cached yet" in preflight.model_check().found


def test_as_a_program_it_prints_json_and_exits_by_its_findings(tmp_path):
    failed = run_preflight("--json", WORKSHOP_MODEL=str(tmp_path / "nowhere"), HF_HUB_OFFLINE="1")
    checks = {check["name"]: check for check in json.loads(failed.stdout)}
    assert failed.returncode == 1 and not checks["base model"]["ok"] and checks["base model"]["mend"]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    text = run_preflight(WORKSHOP_MODEL=str(tmp_path / "model"))
    lines = text.stdout.splitlines()
    assert all(line.startswith(("OK  ", "FAIL")) for line in lines) and len(lines) == len(checks)
    assert text.returncode == (1 if any(line.startswith("FAIL") for line in lines) else 0)


def test_recorded_times_name_profile_machine_and_date():
    head, *lines = preflight.recorded_times("laptop").splitlines()
    assert "laptop" in head and "cores" in head and any("04_orpo" in line for line in lines)
    assert preflight.recorded_times("none such") == "no run of the none such profile is recorded"
