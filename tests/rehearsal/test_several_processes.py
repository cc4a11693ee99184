"""Tensor and data parallelism over real processes (gloo) train what one process trains, and save what was trained.

The processes, two and four, are started once each, also where several workers of pytest share the tests; the reference
is plain PyTorch with transformers and PEFT.
"""

import os
from itertools import product
from pathlib import Path

import pytest

from helpers.files import read_json
from helpers.runs.lock import Lock
from tests.rehearsal.faults import FAULTS, case_of, figure, models
from tests.rehearsal.one_process import differences
from tests.rehearsal.several import LONGEST, VOCABULARY, measured_of, train_over
from tests.rehearsal.tiny import save_tiny_model

METHODS = ("sft", "orpo", "dpo")
EXACT = {"copies": 0.0, "first loss": 1e-4, "gradients": 1e-4, "losses": 2e-3, "saved": 1e-4}
BF16 = {"copies": 0.0, "first loss": 1e-2, "gradients": 0.1, "losses": 3e-2, "saved": 2e-2}
LIMIT = 900.0  # seconds that a worker waits for the one that trains

CHOICES = (("llama", "qwen3"), ("rows", "shared"), ("all", "lora"), ("split", "whole"), ("float32", "bfloat16"))
MATRIX = {"-".join(cell): cell for cell in product(*CHOICES)}
BESIDE = {  # on Qwen3, with tensor parallelism of 2
    "no-zero": {"zero_1": False, "disable_sequence_parallel": True},
    "async": {"lora": 16, "async_save": True, "max_steps": 2},
    "sft-lora-bf16": {"method": "sft", "lora": 16, "dtype": "bfloat16"},
    "sft-all-whole": {"method": "sft", "disable_sequence_parallel": True},
} | {f"data-parallel-{method}": {"method": method, "tensor_parallel_size": 1} for method in METHODS}


def case_of_cell(name: str, paths: dict[str, str]) -> dict:
    """A cell of the matrix as a case: ORPO over two ranks, `split` with sequence parallelism.

    Every second cell, like the white ones of a chessboard, makes logits for the answers only; elsewhere responses fill
    the rows, so that logits are those of all positions.
    """
    architecture, layout, trained, sequence, dtype = MATRIX[name]
    case = {"name": name, "path": paths[architecture], "layout": layout, "dtype": dtype}
    case |= {"lora": 8} if trained == "lora" else {}
    case |= {"disable_sequence_parallel": True} if sequence == "whole" else {}
    white = sum(choices.index(choice) for choices, choice in zip(CHOICES, MATRIX[name], strict=True)) % 2
    return case | ({"max_response_length": LONGEST} if white else {})


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A folder of this run of the tests, the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def trained_once(folder: Path, cases: list[dict], processes: int):
    """(folder, cases by name, what the ranks measured): trained by the first worker that asks."""
    with Lock(folder.with_suffix(".lock")).held(LIMIT):
        if not measured_of(folder, processes):
            train_over(folder, cases, processes)
    return folder, {case["name"]: case for case in cases}, measured_of(folder, processes)


@pytest.fixture(scope="module")
def two_processes(folder):
    """The matrix, what is beside it, and each fault without its correction."""
    paths = models(folder / f"models-{os.getpid()}")
    cases = [case_of_cell(name, paths) for name in MATRIX]
    cases += [settings | {"name": name, "path": paths["qwen3"]} for name, settings in BESIDE.items()]
    faults = [case_of(fault, paths) for fault in FAULTS]
    return trained_once(folder / "two", cases + list({case["name"]: case for case in faults}.values()), 2)


@pytest.fixture(scope="module")
def four_processes(folder):
    """Two copies of a model, each of two ranks: few steps, since four processes share the cores of this machine."""
    path = save_tiny_model(folder / f"four-{os.getpid()}", "qwen3", vocabulary=VOCABULARY)
    cases = [{"name": method, "path": path, "method": method, "max_steps": 3} for method in METHODS]
    return trained_once(folder / "four", cases, 4)


@pytest.mark.parametrize("name", MATRIX)
def test_tensor_parallelism_trains_what_one_process_trains(two_processes, name):
    compare(*two_processes, name, processes=2)


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_beside_the_matrix_trains_so_too(two_processes, name):
    compare(*two_processes, name, processes=2)


@pytest.mark.parametrize("method", METHODS)
def test_tensor_and_data_parallelism_together_train_what_one_process_trains(four_processes, method):
    assert len(four_processes[2][method]) == 4
    compare(*four_processes, method, processes=4)


def compare(folder: Path, cases: dict, measured: dict, name: str, processes: int) -> None:
    """Copies equal on all ranks; losses, first gradients, and the saved model's loss those of one process."""
    tolerance = BF16 if cases[name].get("dtype") == "bfloat16" else EXACT
    for what, (found, where) in differences(cases[name], folder, measured[name], processes).items():
        assert found <= tolerance[what], f"{what}: {found:.2g}, more than {tolerance[what]}, at {where}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.without}: {fault.about}")
def test_without_its_correction_each_fault_shows(two_processes, fault):
    folder, cases, measured = two_processes
    name = case_of(fault, {"llama": "", "qwen3": "", "granite": ""})["name"]
    found = figure(fault, cases[name], folder, measured[name])
    if fault.compared == "error":
        assert fault.says in found
    else:
        assert found > fault.least > (BF16 if "bfloat16" in name else EXACT)[fault.compared]


def test_granite_is_another_model_when_it_is_saved(two_processes):
    folder, cases, _ = two_processes
    (name,) = (name for name in cases if name.startswith("granite"))
    assert read_json(folder / name / "last" / "config.json")["model_type"] == "llama"


def test_one_process_of_all_is_the_first(two_processes, four_processes):
    """Upstream's answer is that all are."""
    for *_, measured in (two_processes, four_processes):
        for ranks in (ranks for ranks in measured.values() if "error" not in ranks[0]):
            assert [rank["first_process"] for rank in ranks] == [True, *[False] * (len(ranks) - 1)]
            assert all(rank["upstreams_first_process"] for rank in ranks)
