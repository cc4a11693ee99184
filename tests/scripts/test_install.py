"""Setting up: the build of torch, the disk, the user's pip settings, and what is checked before it counts as done."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from jupyterlab_server import settings_utils
from pip._vendor.packaging.requirements import Requirement

from helpers.files import REPOSITORY
from scripts.install import __main__ as install
from scripts.install import disk, pins, tools, torch_build

SIX = "six==1.17.0\n"


def test_pins_are_read_with_their_markers(tmp_path):
    file = tmp_path / "r.txt"
    file.write_text('# why\n-e .\na.b==1.2  # x\nnew==2; python_version < "3.99"\nold==3; python_version < "3.5"\n')
    assert {name: str(pin.specifier) for name, pin in pins.read_pins(file).items()} == {"a.b": "==1.2", "new": "==2"}


def test_a_version_with_a_build_tag_satisfies_its_pin(monkeypatch):
    monkeypatch.setattr(pins.importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert pins.satisfied(Requirement("pip==2.13.0")) and not pins.satisfied(Requirement("pip==2.13.1"))


# ── which torch ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def linux(monkeypatch):
    """A Linux machine without driver, torch or settings of pip's, where no index answers."""
    monkeypatch.setattr(torch_build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(torch_build, "satisfied", lambda pin: False)
    monkeypatch.setattr(torch_build, "nvidia_driver", lambda: False)
    monkeypatch.setattr(torch_build, "pip_settings", dict)
    monkeypatch.setattr(torch_build, "answers", lambda url: False)
    monkeypatch.delenv("TORCH_CPU_INDEX", raising=False)
    monkeypatch.delenv("PIP_ARGS", raising=False)
    return monkeypatch


TORCH = Requirement("torch==2.13.0")


def test_with_a_driver_the_cuda_build_without_one_the_cpu_build(linux, capsys):
    linux.setattr(torch_build, "answers", lambda url: True)
    build, arguments = torch_build.choose_torch(TORCH)
    assert build == "cpu" and arguments[-1] == "torch==2.13.0+cpu" and "--no-deps" in arguments
    linux.setattr(torch_build, "nvidia_driver", lambda: True)
    assert torch_build.choose_torch(TORCH) == ("cuda", [])
    assert "NVIDIA driver" in capsys.readouterr().out


def test_a_private_index_is_the_only_one_that_is_asked(linux, capsys):
    linux.setattr(torch_build, "answers", lambda url: pytest.fail("asked another index"))
    linux.setattr(torch_build, "configured_build", lambda pin: "cpu")
    linux.setattr(torch_build, "pip_settings", lambda: {"index-url": "https://pypi.example/simple"})
    assert torch_build.choose_torch(TORCH) == ("cpu", [])
    assert "index-url is set" in capsys.readouterr().out
    linux.setattr(torch_build, "pip_settings", dict)
    linux.setenv("PIP_ARGS", "--index-url https://pypi.example/simple")
    assert torch_build.choose_torch(TORCH) == ("cpu", [])


def test_an_index_that_does_not_answer_is_said_with_what_comes_in_its_place(linux, capsys):
    linux.setattr(torch_build, "configured_build", lambda pin: "cuda")
    assert torch_build.choose_torch(TORCH) == ("cuda", [])
    said = capsys.readouterr().out
    assert "does not answer" in said and "CUDA build" in said and "TORCH_CPU_INDEX" in said


def wheel(folder: Path, version: str, *requires: str, source: str = "", name: str = "torch") -> Path:
    """A wheel of a made-up torch, or another package, with these requirements."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"])
    metadata += "".join(f"\nRequires-Dist: {requirement}" for requirement in requires)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", source)
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.mark.parametrize(
    ("requires", "build"),
    [
        (['nvidia-cudnn-cu13==9; platform_system == "Linux"', "sympy"], "cuda"),
        (['nvidia-cudnn-cu13==9; platform_system == "Plan9"', "sympy"], "cpu"),
        (["sympy"], "cpu"),
    ],
)
def test_the_build_that_pip_would_take_is_read_from_its_requirements(tmp_path, monkeypatch, requires, build):
    wheel(tmp_path / "wheels", "0.9", *requires)
    monkeypatch.setenv("PIP_ARGS", f"--no-index --find-links '{tmp_path / 'wheels'}'")
    assert torch_build.configured_build(Requirement("torch==0.9")) == build


def test_the_build_is_read_where_pip_downloads_a_wheel_to_tell(tmp_path, monkeypatch):
    """What pip draws while it downloads, a bar for a file of some size, is not taken for its report."""
    path = wheel(tmp_path / "wheels", "0.9", "sympy")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("torch/weights.bin", os.urandom(200_000))
    serve = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "wheels"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_ARGS", f"--no-index --no-cache-dir --find-links http://127.0.0.1:{server.server_port}/")
        assert torch_build.configured_build(Requirement("torch==0.9")) == "cpu"
        server.shutdown()


# ── disk ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sized(tmp_path, monkeypatch):
    """A requirements file with sizes, a home of its own, and the free space that a test gives."""
    monkeypatch.setattr(disk.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "r.txt"
    file.write_text("# size cpu: 1.8 GB, download 0.7 GB\n" + SIX)

    def plan(free: float):
        monkeypatch.setattr(disk, "free", lambda folder: free * disk.GB)
        return disk.plan(file, "cpu")

    return plan


def test_sizes_are_said_first_and_a_small_disk_keeps_no_downloads(sized, tmp_path, capsys):
    assert sized(50) is None and "kept in the cache" in capsys.readouterr().out
    assert sized(5) == tmp_path / ".downloads"
    said = capsys.readouterr().out
    assert "0.7 GB" in said and "1.8 GB" in said and "deleted at the end" in said


def test_too_small_a_disk_is_refused_before_anything_is_fetched(sized, tmp_path):
    with pytest.raises(pins.SetupError, match=r"3\.2 GB are needed .* 3\.0 GB are free there"):
        sized(3)
    (tmp_path / "half").write_bytes(b"x" * 1_000_000_000)  # half made already: what is there needs no room again
    assert sized(3)


def test_every_size_that_is_said_stands_in_the_requirements():
    text = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    assert "# size cpu: " in text and "# size cuda: " in text


# ── pip's settings ──────────────────────────────────────────────────────────────────────────────────────────


def test_uv_is_given_pips_settings_or_pip_is_asked():
    said = tools.uv_arguments({"index-url": "https://a/simple", "find-links": "/w /x", "timeout": "9", "cert": "c"})
    assert said[2:] == ["--default-index", "https://a/simple", "--find-links", "/w", "--find-links", "/x"]
    assert tools.uv_arguments({"client-cert": "mine.pem"}) is None


def test_settings_that_may_be_at_fault_are_named_and_their_values_kept_secret(monkeypatch):
    found = {
        "index-url": "https://me:secret@index/simple",
        "require-hashes": "1",
        "timeout": "9",
        "constraint": "c.txt",
    }
    monkeypatch.setattr(tools, "pip_settings", lambda: found)
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
    assert tools.suspects() == [
        "PIP_REQUIRE_HASHES",
        "index-url in pip's configuration",
        "constraint in pip's configuration (constraints in c.txt)",
    ]


def set_up(folder: Path, requirements: str = SIX, **environment: str) -> subprocess.CompletedProcess:
    """scripts/setup.sh for one small package, in a folder with a space and a letter beyond ASCII."""
    folder = folder / "my wörkshop"
    folder.mkdir(exist_ok=True)
    (folder / "scripts").symlink_to(REPOSITORY / "scripts")
    (folder / "r.txt").write_text(requirements)
    command = ["bash", "scripts/setup.sh", "venv", "venv/.ready-x", "r.txt"]
    environment = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def has_six(folder: Path) -> bool:
    python = folder / "my wörkshop" / "venv" / "bin" / "python"
    return subprocess.run([python, "-c", "import six"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_PYTHON"])
def test_settings_that_send_packages_elsewhere_do_not(tmp_path, name):
    done = set_up(tmp_path, **{name: "1" if name == "PIP_USER" else str(tmp_path / "elsewhere")})
    assert done.returncode == 0, done.stderr
    assert has_six(tmp_path) and not (tmp_path / "elsewhere").exists() and name in done.stdout
    assert (tmp_path / "my wörkshop" / "venv" / ".ready-x").exists()


def test_settings_that_change_what_is_installed_are_not_followed_and_those_of_the_network_are(monkeypatch):
    followed = {
        "UV_CACHE_DIR": "c",
        "UV_DEFAULT_INDEX": "https://a",
        "UV_HTTP_TIMEOUT": "9",
        "PIP_INDEX_URL": "https://a",
    }
    misleading = {"UV_SYSTEM_PYTHON": "1", "UV_OVERRIDE": "o.txt", "UV_CONSTRAINT": "c.txt", "PIP_ROOT": "/r"}
    monkeypatch.setattr(tools.os, "environ", followed | misleading)
    assert sorted(tools.ignored_settings()) == sorted(misleading)
    assert tools.clean() == followed | {"PIP_USER": "0", "UV_NO_CONFIG": "1"}


@pytest.mark.slow
def test_uvs_own_file_and_pythons_variables_change_nothing(tmp_path):
    """uv reads the uv.toml of any folder above; PYTHONSAFEPATH hides scripts/, and warnings would be errors."""
    (tmp_path / "uv.toml").write_text(f"[pip]\ntarget = '{tmp_path / 'elsewhere'}'\n")
    done = set_up(tmp_path, PYTHONSAFEPATH="1", PYTHONWARNINGS="error")
    assert done.returncode == 0 and has_six(tmp_path) and not (tmp_path / "elsewhere").exists(), done.stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PIP_CONFIG_FILE", "pip.conf", r"pip can't read its settings \(.*pip\.conf.*\): fix that file"),
        ("PIP_ARGS", "--index-url 'http", "PIP_ARGS can't be split into arguments: No closing quotation"),
    ],
)
def test_settings_that_cannot_be_read_are_named(tmp_path, monkeypatch, name, value, says):
    (tmp_path / "pip.conf").write_text("target = x\n[install\n")
    monkeypatch.setenv(name, str(tmp_path / value) if name == "PIP_CONFIG_FILE" else value)
    with pytest.raises(pins.SetupError, match=says):
        tools.pip_settings(), tools.pip_arguments()


@pytest.mark.slow
def test_a_setting_in_pips_own_file_is_named(tmp_path):
    (tmp_path / "pip.conf").write_text(f"[install]\ntarget = {tmp_path / 'elsewhere'}\n")
    done = set_up(tmp_path, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert has_six(tmp_path) if done.returncode == 0 else "install.target" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("by_variable", "with_uv"), [(True, True), (False, True), (True, False)])
def test_a_constraint_that_contradicts_is_told_with_both_versions_and_nothing_counts_as_done(
    tmp_path, by_variable, with_uv
):
    (tmp_path / "c.txt").write_text("six==1.16.0\n")
    (tmp_path / "pip.conf").write_text(f"[global]\nconstraint = {tmp_path / 'c.txt'}\n")
    name, value = ("PIP_CONSTRAINT", "c.txt") if by_variable else ("PIP_CONFIG_FILE", "pip.conf")
    only_pip = {} if with_uv else {"PIP_ARGS": "--prefer-binary"}
    done = set_up(tmp_path, **{name: str(tmp_path / value)}, **only_pip)
    last = done.stderr.splitlines()[-1]
    named = "PIP_CONSTRAINT" if by_variable else "constraint in pip's configuration"
    assert done.returncode == 1 and "six==1.17.0, (constraint) six==1.16.0" in last
    others = "" if with_uv else ", PIP_ARGS"
    listed = f"{named} (constraints in {tmp_path / 'c.txt'}){others}. "
    assert f"if one of these settings is at fault, unset it: {listed}" in last
    assert not (tmp_path / "my wörkshop" / "venv" / ".ready-x").exists()


def test_who_wants_which_version_is_read_from_what_pip_says():
    log = "\n".join(f"2026-11-27T12:00:00,123 {line}" for line in LOG.splitlines())
    assert tools.conflict(log) == (
        ", these can't be had together: jinja2 3.1.6 depends on MarkupSafe>=2.0, (constraint) markupsafe<2"
    )
    assert tools.conflict("2026-11-27T12:00:00,123 ERROR: no matching distribution") == ""


LOG = """ERROR: Cannot install jinja2 because these package versions have conflicting dependencies.

The conflict is caused by:
    jinja2 3.1.6 depends on MarkupSafe>=2.0
    The user requested (constraint) markupsafe<2

To fix this you could try to:"""


@pytest.mark.slow
def test_a_torch_that_cannot_be_imported_is_no_set_up(tmp_path):
    wheel(tmp_path / "wheels", "0.9", source="raise ImportError('libcudnn.so.9: cannot open shared object file')")
    done = set_up(tmp_path, "torch==0.9\n", PIP_ARGS=f"--no-index --find-links '{tmp_path / 'wheels'}'")
    assert done.returncode == 1 and "torch is installed and can't be imported" in done.stderr.splitlines()[-1]
    assert "libcudnn" in done.stderr and not (tmp_path / "my wörkshop" / "venv" / ".ready-x").exists()


# ── where people work: a proxy, an interruption, conda, no rights ───────────────────────────────────────────


class Index(ThreadingHTTPServer):
    """A package index on loopback, which is also an http proxy that alone knows the host "index.invalid".

    asked: what was requested. held: a file name that nobody gets before `free` is set; `waiting` says that one waits.
    """

    daemon_threads = True

    def __init__(self, wheels: Path):
        super().__init__(("127.0.0.1", 0), Answer)
        self.wheels, self.asked, self.held = wheels, [], ""
        self.waiting, self.free = threading.Event(), threading.Event()
        self.here = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        name = unquote(urlsplit(self.path).path).rstrip("/").rpartition("/")[2]
        if name == self.server.held:
            self.server.waiting.set()
            self.server.free.wait(60)
        file = self.server.wheels / name
        project = [path.name for path in self.server.wheels.glob(f"{name}-*.whl")]
        if file.is_file():
            self.give(file.read_bytes(), "application/octet-stream")
        elif project:
            self.give("".join(f'<a href="/files/{one}">{one}</a>' for one in project).encode(), "text/html")
        else:
            self.send_error(404)

    def do_HEAD(self):
        self.do_GET()

    def do_CONNECT(self):
        self.server.asked.append(f"CONNECT {self.path}")
        self.send_error(403)

    def give(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600" if kind.startswith("application") else "no-cache")
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def index(tmp_path):
    """An index with two packages that need nothing."""
    for name in ("first", "second"):
        wheel(tmp_path / "wheels", "1.0", name=name)
    with Index(tmp_path / "wheels") as server:
        yield server
        server.free.set()
        server.shutdown()


def plain(**more: str) -> dict[str, str]:
    """The process's environment without settings of pip's or a proxy, and with these."""
    names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "xdg_cache_home", "xdg_config_home")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in names}
    return (
        {name: value for name, value in kept.items() if not name.startswith(("PIP_", "UV_"))}
        | {
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHON": sys.executable,
        }
        | more
    )


def clone(folder: Path, requirements: str) -> list[str]:
    """A clone with scripts/ alone, and the command that sets it up."""
    folder.mkdir()
    shutil.copytree(REPOSITORY / "scripts" / "install", folder / "scripts" / "install")
    shutil.copy(REPOSITORY / "scripts" / "setup.sh", folder / "scripts")
    (folder / "r.txt").write_text(requirements)
    return ["bash", "scripts/setup.sh", "venv", "venv/.ready-x", "r.txt"]


def modules(folder: Path, *names: str) -> list[bool]:
    """Which of these modules the environment of a clone can import."""
    code = "import importlib.util, sys; print(*(bool(importlib.util.find_spec(name)) for name in sys.argv[1:]))"
    said = subprocess.run([folder / "venv" / "bin" / "python", "-c", code, *names], capture_output=True, text=True)
    return [word == "True" for word in said.stdout.split()]


@pytest.mark.slow
def test_a_set_up_that_was_killed_goes_on_from_what_it_has(tmp_path, index):
    """Killed while the second package is on its way: the first is not fetched again, nor the environment made anew."""
    command = clone(tmp_path / "clone", "first==1.0\nsecond==1.0\n")
    environment = plain(HOME=str(tmp_path), PIP_INDEX_URL=f"{index.here}/simple/")
    environment["PIP_TRUSTED_HOST"] = "127.0.0.1"
    index.held = "second-1.0-py3-none-any.whl"
    how = {"cwd": tmp_path / "clone", "env": environment, "text": True}
    killed = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how
    )
    assert index.waiting.wait(60)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    stamp, python = tmp_path / "clone/venv/.ready-x", tmp_path / "clone/venv/bin/python"
    assert not stamp.exists() and not any(modules(tmp_path / "clone", "first", "second"))
    made = python.lstat().st_ctime_ns
    index.free.set()
    done = subprocess.run(command, capture_output=True, **how)
    assert done.returncode == 0, done.stderr
    assert stamp.exists() and all(modules(tmp_path / "clone", "first", "second"))
    assert python.lstat().st_ctime_ns == made
    assert sum(path.endswith("first-1.0-py3-none-any.whl") for path in index.asked) == 1


def test_the_index_of_cpu_builds_is_asked_through_the_proxy_too(monkeypatch, index):
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", index.here)
    monkeypatch.setenv("https_proxy", index.here)
    monkeypatch.setattr(torch_build.urllib.request, "_opener", None)  # it keeps the proxies of the first call
    assert torch_build.answers("http://index.invalid/whl/cpu/first/")
    assert not torch_build.answers("https://index.invalid/whl/cpu/torch/"), "this proxy lets no https through"
    assert "CONNECT index.invalid:443" in index.asked


@pytest.mark.slow
def test_with_condas_base_active_behind_a_proxy_only_conda_s_python_is_used_and_only_the_proxy_asked(tmp_path, index):
    """As in a terminal of Studio: conda's python3 is first on PATH, and its variables point to its base. The proxy
    alone can resolve the index's name.
    """
    base, command = tmp_path / "conda", clone(tmp_path / "clone", "first==1.0\n")
    (base / "conda-meta").mkdir(parents=True)
    stand_in(base / "bin", "python3", f'echo "$1" >> "{tmp_path}/asked"; exec "{sys.executable}" "$@"\n')
    stand_in(base / "bin", "pip", f'echo pip >> "{tmp_path}/asked"; exit 1\n')
    conda = {"CONDA_PREFIX": str(base), "CONDA_DEFAULT_ENV": "base", "CONDA_SHLVL": "1", "HOME": str(tmp_path)}
    proxy = {"http_proxy": index.here, "https_proxy": index.here, "PIP_TRUSTED_HOST": "index.invalid"}
    proxy["PIP_INDEX_URL"] = "http://index.invalid/simple/"
    environment = plain(PATH=f"{base}/bin:{os.environ['PATH']}", **conda, **proxy)
    del environment["PYTHON"]
    before = sorted(base.rglob("*"))
    done = subprocess.run(command, cwd=tmp_path / "clone", env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and modules(tmp_path / "clone", "first") == [True], done.stderr
    assert set((tmp_path / "asked").read_text().split()) == {"-c", "-m"}, "its version, then venv; not its pip"
    assert sorted(base.rglob("*")) == before
    assert "http://index.invalid/files/first-1.0-py3-none-any.whl" in index.asked


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_nothing_is_written_outside_clone_and_home(index, tmp_path):
    """By a user who owns these two alone; temporary files go where TMPDIR says, here into the home."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        command = clone(Path(place) / "clone", "first==1.0\n")
        (home / "tmp").mkdir(parents=True)
        environment = plain(HOME=str(home), TMPDIR=str(home / "tmp"), PIP_INDEX_URL=f"{index.here}/simple/")
        started = time.time()
        if os.geteuid() == 0:  # as a user to whom nothing else belongs
            Path(place).chmod(0o755)
            for path in (home, Path(place) / "clone", *home.rglob("*"), *(Path(place) / "clone").rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
            environment["PYTHON"] = python_for_others()
        done = subprocess.run(command, cwd=Path(place) / "clone", env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and modules(Path(place) / "clone", "first") == [True], done.stderr
        assert list((home / "tmp").iterdir()) == []
        theirs = Path("/tmp").iterdir() if os.geteuid() == 0 else []
        assert not [path for path in theirs if path.lstat().st_uid == NOBODY and path.lstat().st_mtime > started]


NOBODY = 65534


def python_for_others() -> str:
    """An interpreter that any user can reach and run."""
    there = [str(Path(sys.executable).resolve()), *(f"/usr/bin/python3.{minor}" for minor in (11, 12, 13))]
    for python in map(Path, there):
        if python.exists() and all(folder.stat().st_mode & 0o001 for folder in (python, *python.parents)):
            return str(python)
    pytest.skip("every Python here is root's alone")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@jupyterlab/apputils-extension:notification", {"fetchNews": "false", "checkForUpdates": False}),
        ("@jupyterlab/notebook-extension:tracker", {"codeCellConfig": {"lineNumbers": False, "lineWrap": True}}),
    ],
)
def test_jupyterlab_reads_from_what_set_up_writes_that_nobody_is_asked_about_news_and_code_is_wrapped(
    tmp_path, monkeypatch, name, expected
):
    """By JupyterLab's own reader and its own schema, which would take no other value."""
    schemas = Path(sys.prefix) / "share" / "jupyter" / "lab" / "schemas"
    monkeypatch.setattr(install.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(install, "has", lambda name: True)
    install.set_up_lab()
    folder = tmp_path / "share" / "jupyter" / "lab" / "settings"
    read, _ = settings_utils.get_settings(str(folder), str(schemas), str(tmp_path), schema_name=name)
    assert {key: read["schema"]["properties"][key]["default"] for key in expected} == expected
    jsonschema.validate(json.loads((folder / "overrides.json").read_text())[name], read["schema"])


# ── a Python that is fetched ────────────────────────────────────────────────────────────────────────────────


def stand_in(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("tool", ["uv", "conda"])
def test_where_no_python_fits_uv_or_conda_fetches_one_and_it_is_said(tmp_path, tool):
    """Stand-ins for both tools record what they are asked; the environment is not made."""
    path = tmp_path / "bin"
    for name in ("env", "dirname", "rm", "bash", "sh"):
        stand_in(path, name, f'exec /usr/bin/{name} "$@"\n')
    stand_in(path, tool, f'echo "$@" >> "{tmp_path}/asked"\n')
    command = ["/usr/bin/bash", "scripts/setup.sh", str(tmp_path / "venv"), str(tmp_path / "x"), "r.txt", "3.11"]
    done = subprocess.run(command, cwd=REPOSITORY, env={"PATH": str(path)}, capture_output=True, text=True)
    assert done.returncode != 0 and f"No Python 3.11 here: {tool}" in done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "python install" in asked if tool == "uv" else f"--prefix {tmp_path}/venv-python python=3.11" in asked
