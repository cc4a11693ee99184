"""The rehearsal's tests run in their own environment (`make rehearse`); elsewhere they are not collected."""

import importlib.util
import os

import pytest

collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("torch_xla") is None else []

if not collect_ignore_glob:
    from tests.rehearsal import launch

    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.pop("MASTER_PORT", None)  # the starting process took one, and all workers would listen on it
    try:
        ORIGIN = launch.prepare()
    except SystemExit as refused:
        raise pytest.UsageError(str(refused)) from None

    import torch_xla

    torch_xla.device()  # autograd knows only the devices that exist when it first runs


def pytest_report_header():
    return [] if collect_ignore_glob else launch.describe(ORIGIN).splitlines()


@pytest.fixture(autouse=True)
def a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
