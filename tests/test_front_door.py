"""What README and docs promise exists: commands, files, pins, and the tables they show."""

import re
import subprocess

import pytest

from benchmarks import data_scale, step_profile
from benchmarks import results as bench_results
from benchmarks.bars import bars_table
from helpers.evaluation.tables import runs_summary, runs_table
from helpers.files import REPOSITORY
from helpers.preflight.packages import read_pins
from helpers.runs.recorded import recorded_runs

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "tests/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def commands(text: str) -> set[str]:
    """The make targets that a text tells its reader to run."""
    return set(
        re.findall(r"\bmake ([a-z]+)\b(?! sure| of)", "\n".join(re.findall(r"`[^`]+`|```bash.*?```", text, re.S)))
    )


@pytest.mark.parametrize("name", PAGES)
def test_every_command_named_exists(name):
    named = commands((REPOSITORY / name).read_text(encoding="utf-8"))
    assert named <= TARGETS, named - TARGETS
    assert named or name.startswith("docs/")


def test_every_target_is_explained_by_make_help_and_the_reference():
    listed = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make (\w+)", listed, re.MULTILINE)) == TARGETS
    assert TARGETS - commands((REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")) <= {"help"}


def test_ci_runs_what_the_readme_names():
    run = re.findall(r"^make (\w+)", (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert "test" in run and "lint" in run and set(run) <= commands(README)


def test_the_readme_lists_the_notebooks_and_is_short():
    assert len(README.splitlines()) <= 200
    listed = set(re.findall(r"^\| \[`(\d\d_\w+)`\]\(notebooks/\1\.ipynb\)", README, re.MULTILINE))
    assert listed | {"demo"} == {path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    assert "notebooks/demo.ipynb" in README


def pinned(name: str) -> set[str]:
    """The packages of a requirements file, each pinned exactly with its reason."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    for line in wanted:
        assert re.match(r'[A-Za-z0-9_.-]+==\d[\w.]*(; python_version < "3\.12")? +# \S', line), line
    return {line.split("==")[0] for line in wanted}


def test_every_requirement_is_pinned_exactly_and_says_why():
    run, develop = pinned("requirements.txt"), pinned("requirements-dev.txt")
    assert {"torch", "transformers", "trl", "datasets", "jupyterlab", "matplotlib", "ipywidgets"} <= run
    assert "optimum-neuron" in run and {"pytest", "ruff", "moto", "flask", "hypothesis"} <= develop
    assert not run & develop, "running the workshop installs no tools of its development"


@pytest.mark.parametrize("name", ["sagemaker", "serving"])
def test_what_a_notebook_takes_besides_is_what_the_tests_take(name):
    besides, develop = (read_pins(REPOSITORY / f"requirements-{each}.txt") for each in (name, "dev"))
    assert pinned(f"requirements-{name}.txt") == set(besides) and besides.items() <= develop.items()


def test_a_checkout_on_windows_keeps_the_scripts_line_endings(tmp_path):
    clone = [
        "git",
        "-c",
        "core.autocrlf=true",
        "clone",
        "--quiet",
        "--depth=1",
        f"file://{REPOSITORY}",
        str(tmp_path / "c"),
    ]
    if subprocess.run(clone, capture_output=True).returncode:
        pytest.skip("not in a git clone")
    for name in ("scripts/setup.sh", "Makefile"):
        assert b"\r" not in (tmp_path / "c" / name).read_bytes()


def shown(document: str, name: str) -> str:
    """A document's text between two markers."""
    page = (REPOSITORY / document).read_text(encoding="utf-8")
    return re.search(rf"<!-- {name} -->\n(.*)<!-- /{name} -->", page, re.DOTALL)[1].strip()


def test_the_tables_are_what_was_recorded():
    runs = recorded_runs("laptop")
    assert shown("README.md", "summary") == runs_summary(runs).strip(), "run make figures"
    assert shown("docs/results.md", "results") == runs_table(runs).strip(), "run make figures"
    assert shown("docs/results.md", "bench") == bench_results.table(bench_results.recorded_bench()).strip()
    kinds = bench_results.recorded_kinds()
    assert shown("docs/results.md", "kinds") == bench_results.kinds_table(kinds).strip()
    assert shown("docs/results.md", "bars") == bars_table(bench_results.recorded_bench(), kinds).strip()
    assert shown("docs/own_data.md", "scale") == data_scale.scale_table(data_scale.recorded_scale()).strip()
    assert shown("docs/results.md", "profile") == step_profile.profile_table(step_profile.recorded_profile()).strip()


def setup(tmp_path, python: str) -> subprocess.CompletedProcess:
    command = ["bash", "scripts/setup.sh", str(tmp_path / "venv"), str(tmp_path / "venv" / ".ready")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": python}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)


def test_setup_refuses_a_python_that_does_not_fit(tmp_path):
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\necho 3.10\n")
    old.chmod(0o755)
    refused = setup(tmp_path, str(old))
    assert refused.returncode == 1 and "is not Python 3.11, 3.12, 3.13: name one that is" in refused.stderr
    missing = setup(tmp_path, str(tmp_path / "nothing"))
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


def test_make_does_not_repeat_work_that_is_done():
    """A dry run of `make test` from here starts pytest and no setup."""
    environment = REPOSITORY / ".venv"
    if environment.is_symlink() or not list(environment.glob(".ready-*")):
        pytest.skip("this Python is not that of `make setup` in this clone")
    plan = subprocess.run(["make", "-n", "test"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "pytest" in plan and "setup.sh" not in plan


def test_the_clone_holds_no_links():
    """A link that was made on one machine leads nowhere on another; Windows checks it out as a file."""
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not in a git clone")
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]
