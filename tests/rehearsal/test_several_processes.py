"""Tensor and data parallelism over real processes (gloo) train what one process trains, and save what was trained.

Each fixture starts its processes, two or four, once; the reference is plain PyTorch with transformers and PEFT.
"""

import pytest
import torch

from tests.rehearsal.several import (
    LONGEST,
    VOCABULARY,
    retrained,
    saved_gradients,
    says_ordinary,
    train_over,
)
from tests.rehearsal.tiny import save_tiny_model

METHODS = ("sft", "orpo", "dpo")
EXACT = {"loss": 1e-4, "gradient": 1e-4, "history": 2e-3, "saved": 1e-4}
BF16 = {"loss": 1e-2, "gradient": 0.1, "history": 3e-2, "saved": 2e-2}


def cases_of_tensor_parallelism(folder) -> list[dict]:
    """Every fault that tensor parallelism had, at the smallest model that shows it, and its neighbours.

    Responses fill the rows, so that logits are those of all positions unless they are asked for the answers only.
    """
    llama, qwen3 = (save_tiny_model(folder / name, name, vocabulary=VOCABULARY) for name in ("llama", "qwen3"))
    off, answers = {"disable_sequence_parallel": True}, {"max_response_length": LONGEST}
    return [
        {"name": "llama-all", "path": llama},
        {"name": "llama-all-bf16", "path": llama, "dtype": "bfloat16"},
        {"name": "llama-lora-answers", "path": llama, "lora": 8} | answers,
        {"name": "qwen3-all", "path": qwen3},
        {"name": "qwen3-all-off-answers", "path": qwen3} | off | answers,
        {"name": "qwen3-all-off-no-zero", "path": qwen3, "zero_1": False} | off,
        {"name": "qwen3-all-shared", "path": qwen3, "layout": "shared"},
        {"name": "qwen3-all-bf16", "path": qwen3, "dtype": "bfloat16"},
        {"name": "qwen3-lora", "path": qwen3, "lora": 16},
        {"name": "qwen3-lora-off", "path": qwen3, "lora": 16} | off,
        {"name": "qwen3-lora-bf16-answers", "path": qwen3, "lora": 16, "dtype": "bfloat16"} | answers,
        {"name": "qwen3-lora-shared-answers", "path": qwen3, "lora": 16, "layout": "shared"} | answers,
        {"name": "qwen3-lora-async", "path": qwen3, "lora": 16, "async_save": True, "max_steps": 2},
    ]


NAMES = [
    "llama-all",
    "llama-all-bf16",
    "llama-lora-answers",
    "qwen3-all",
    "qwen3-all-off-answers",
    "qwen3-all-off-no-zero",
    "qwen3-all-shared",
    "qwen3-all-bf16",
    "qwen3-lora",
    "qwen3-lora-off",
    "qwen3-lora-bf16-answers",
    "qwen3-lora-shared-answers",
    "qwen3-lora-async",
]


@pytest.fixture(scope="module")
def tensor_parallel(tmp_path_factory):
    """(folder, cases by name, what the ranks measured): every case, trained by one pair of processes."""
    folder = tmp_path_factory.mktemp("tensor-parallel")
    cases = cases_of_tensor_parallelism(folder)
    assert [case["name"] for case in cases] == NAMES
    return folder, {case["name"]: case for case in cases}, train_over(folder / "trained", cases)


@pytest.mark.parametrize("name", NAMES)
def test_tensor_parallelism_trains_what_one_process_trains(tensor_parallel, name):
    folder, cases, measured = tensor_parallel
    compare(folder / "trained", cases[name], measured[name], processes=2)


@pytest.fixture(scope="module")
def data_parallel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data-parallel")
    path = save_tiny_model(folder / "qwen3", "qwen3", vocabulary=VOCABULARY)
    cases = [{"name": method, "path": path, "method": method, "tensor_parallel_size": 1} for method in METHODS]
    return folder, {case["name"]: case for case in cases}, train_over(folder / "trained", cases)


@pytest.mark.parametrize("method", METHODS)
def test_data_parallelism_trains_what_one_process_trains(data_parallel, method):
    folder, cases, measured = data_parallel
    compare(folder / "trained", cases[method], measured[method], processes=2)


@pytest.fixture(scope="module")
def four_processes(tmp_path_factory):
    """Two copies of a model, each of two ranks: few steps, since four processes share the cores of this machine."""
    folder = tmp_path_factory.mktemp("four")
    path = save_tiny_model(folder / "qwen3", "qwen3", vocabulary=VOCABULARY)
    cases = [{"name": method, "path": path, "method": method, "max_steps": 3} for method in METHODS]
    return folder, {case["name"]: case for case in cases}, train_over(folder / "trained", cases, processes=4)


@pytest.mark.parametrize("method", METHODS)
def test_tensor_and_data_parallelism_together_train_what_one_process_trains(four_processes, method):
    folder, cases, measured = four_processes
    assert len(measured[method]) == 4
    compare(folder / "trained", cases[method], measured[method], processes=4)


def test_one_process_of_all_is_the_first(data_parallel, tensor_parallel, four_processes):
    for *_, measured in (data_parallel, tensor_parallel, four_processes):
        for ranks in measured.values():
            assert [rank["first_process"] for rank in ranks] == [True, *[False] * (len(ranks) - 1)]


def compare(folder, case: dict, ranks: list[dict], processes: int) -> None:
    """Copies equal on all ranks; losses, first gradients, and the saved model's loss those of one process."""
    tolerance = BF16 if case.get("dtype") == "bfloat16" else EXACT
    for name, parameter in ranks[0]["copied"].items():
        for other in ranks[1:]:
            assert torch.equal(parameter, other["copied"][name]), f"{name} differs between ranks"
    one = retrained(case, folder, processes)
    gradients = saved_gradients(case, folder)
    twice = set(gradients) - set(one["gradients"])
    assert all(name == "lm_head.weight" or "up_proj.lora_A" in name for name in twice), "only what is tied"
    for name, gradient in one["gradients"].items():
        error = (gradients[name].float() - gradient).norm() / gradient.norm()
        assert error < tolerance["gradient"], (name, float(error))
    for rank in ranks:
        assert rank["losses"][0] == pytest.approx(one["losses"][0], rel=tolerance["loss"], abs=6e-5)
        assert rank["losses"] == pytest.approx(one["losses"], rel=tolerance["history"], abs=6e-5)
        assert rank["says"] == pytest.approx(says_ordinary(case, folder, processes), rel=tolerance["saved"])
