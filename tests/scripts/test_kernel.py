"""The kernel "ORPO workshop" of the user: found by any Jupyter, replaced when stale, and never stolen in silence."""

import json
import os
import subprocess
import sys

import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager

from helpers.files import REPOSITORY


@pytest.fixture
def data(tmp_path):
    return tmp_path / "jupyter data"


@pytest.fixture
def kernel(data, tmp_path):
    """scripts/kernel.py in an environment of its own, so that only the user's folder and `tmp_path` are written."""
    python = tmp_path / "clone é" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    site = next((python.parents[1] / "lib").glob("python3*/site-packages"))
    (site / "borrowed.pth").write_text(os.path.dirname(os.path.dirname(pytest.__file__)) + "\n")

    def run(action: str, expected: int = 0) -> str:
        command = [str(python), str(REPOSITORY / "scripts" / "kernel.py"), action]
        environment = os.environ | {"JUPYTER_DATA_DIR": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
        return done.stdout + done.stderr

    run.python = python
    return run


def spec_of(data):
    return json.loads((data / "kernels" / "orpo-workshop" / "kernel.json").read_text(encoding="utf-8"))


def written_by_another(data, python) -> None:
    folder = data / "kernels" / "orpo-workshop"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": [str(python), "-m", "x"], "display_name": "x"}))


def test_any_jupyter_of_the_user_finds_it_and_it_runs_without_the_images_packages(kernel, data, monkeypatch):
    assert str(data) in kernel("register")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(data))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")  # as a Jupyter that is not this environment's
    monkeypatch.setenv("PYTHONPATH", "/an/image/of/older/packages")
    manager = KernelManager(kernel_name="orpo-workshop", kernel_spec_manager=KernelSpecManager())
    assert manager.kernel_spec.display_name == "ORPO workshop"
    assert manager.kernel_spec.argv[0] == str(kernel.python)
    unset = ("PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONDONTWRITEBYTECODE")
    assert manager.kernel_spec.env == dict.fromkeys(unset, "") | {"GOMP_SPINCOUNT": "20000"}


def test_a_terminal_that_knows_ascii_only_gets_the_rest_as_question_marks(kernel, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "The kernel ?ORPO workshop? is registered in" in kernel("register")


def test_a_stale_kernel_is_replaced_and_a_living_one_is_taken_only_on_request(kernel, data, tmp_path):
    written_by_another(data, tmp_path / "gone" / ".venv" / "bin" / "python")
    assert kernel("offer") == "" and spec_of(data)["argv"][0] == str(kernel.python)
    other = tmp_path / "other" / ".venv" / "bin" / "python"
    other.parent.mkdir(parents=True)
    other.touch()
    (data / "kernels" / "orpo-workshop" / "kernel.json").unlink()
    (data / "kernels" / "orpo-workshop").rmdir()
    written_by_another(data, other)
    assert "stays with" in (said := kernel("offer")) and str(tmp_path / "other") in said and "make setup" in said
    assert spec_of(data)["argv"][0] == str(other)
    assert "belonged to" in (said := kernel("register")) and str(tmp_path / "other") in said
    assert spec_of(data)["argv"][0] == str(kernel.python)
    assert "belonged to" not in kernel("register")


def test_a_file_that_is_no_kernel_is_replaced(kernel, data):
    folder = data / "kernels" / "orpo-workshop"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text("{torn")
    kernel("offer")
    assert spec_of(data)["display_name"] == "ORPO workshop"


def test_remove_takes_away_its_own_and_leaves_anothers(kernel, data, tmp_path):
    kernel("register")
    assert "removed" in kernel("remove") and not (data / "kernels" / "orpo-workshop").exists()
    assert kernel("remove") == ""
    other = tmp_path / "other" / ".venv" / "bin" / "python"
    other.parent.mkdir(parents=True)
    other.touch()
    written_by_another(data, other)
    assert "stays" in kernel("remove") and spec_of(data)["argv"][0] == str(other)


def test_a_folder_that_cannot_be_written_is_named_and_stops_only_who_asked_for_it(kernel, data):
    data.write_text("a file where the folder should be")
    assert "JUPYTER_DATA_DIR" in kernel("register", expected=1)
    assert "JUPYTER_DATA_DIR" in kernel("offer", expected=0)
