"""Which backend a machine gets and why; an accelerator that can't be used is explained, never passed over."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from helpers import backends
from helpers.backends import NEURON_PACKAGES, BackendError, Machine, detect, has_trainium
from helpers.files import REPOSITORY
from scripts.train_arguments import defaults

LAPTOP = Machine(
    neuron_devices=0,
    nvidia_driver=False,
    cuda=False,
    native_neuron=False,
    neuron_packages=("optimum.neuron",),
    missing_packages=NEURON_PACKAGES[1:],
    pjrt_device="",
    xla_in_use=False,
    python=(3, 11),
    gflops=100.0,
    bf16_gflops=30.0,
)
NATIVE = replace(LAPTOP, neuron_devices=2, native_neuron=True, python=(3, 12), neuron_packages=("torch_neuronx",))
TRAINIUM = replace(LAPTOP, neuron_devices=2, neuron_packages=NEURON_PACKAGES, missing_packages=())


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    monkeypatch.delenv("WORKSHOP_BACKEND", raising=False)
    monkeypatch.delenv("WORKSHOP_PRECISION", raising=False)


def test_a_laptop_gets_the_cpu_in_float32_and_any_shape():
    backend = detect(machine=LAPTOP)
    assert (backend.name, backend.dtype, backend.fixed_shapes) == ("cpu", torch.float32, False)
    reason = "no accelerator found; bf16 multiplies 0.3 times as fast as float32"
    assert str(backend) == f"Backend cpu: {reason} (float32, any shape)"


def test_bf16_is_chosen_where_the_machine_is_really_faster_with_it(monkeypatch):
    backend = detect(machine=replace(LAPTOP, bf16_gflops=210.0))
    assert backend.dtype == torch.bfloat16 and "2.1 times as fast" in backend.reason
    assert detect(machine=replace(LAPTOP, bf16_gflops=140.0)).dtype == torch.float32
    monkeypatch.setenv("WORKSHOP_PRECISION", "float32")
    assert detect(machine=replace(LAPTOP, bf16_gflops=210.0)).dtype == torch.float32
    monkeypatch.setenv("WORKSHOP_PRECISION", "half")
    with pytest.raises(ValueError, match="WORKSHOP_PRECISION is 'half': give float32 or bf16"):
        detect(machine=LAPTOP)


def test_a_trainium_gets_optimum_neuron_in_bf16_and_fixed_shapes():
    backend = detect(machine=TRAINIUM)
    assert (backend.name, backend.dtype, backend.fixed_shapes) == ("neuron", torch.bfloat16, True)
    assert "2 Neuron devices" in str(backend) and len(str(backend).splitlines()) == 1


def test_the_rehearsal_is_named_as_what_it_is():
    backend = detect(machine=replace(TRAINIUM, neuron_devices=0, pjrt_device="CPU"))
    assert backend.name == "neuron" and "stands in for a Trainium" in backend.reason


def test_cuda_and_native_neuron():
    assert detect(machine=replace(LAPTOP, nvidia_driver=True, cuda=True)).name == "cuda"
    assert detect(machine=NATIVE).name == "torch-neuron"


def test_torch_neuron_is_told_as_untried_and_promises_no_fixed_shapes():
    backend = detect(machine=NATIVE)
    assert "untried" in str(backend) and str(backend).endswith("(bfloat16, any shape)")
    told = defaults(backend, [])
    assert told[told.index("--bf16") + 1] == "True" and told[told.index("--use_cpu") + 1] == "False"
    assert "untried" not in str(detect(machine=TRAINIUM)) + str(detect(machine=LAPTOP))


@pytest.mark.parametrize("found", [("torch_neuronx",), ("neuronxcc",), ("torch_xla", "torch_neuronx", "neuronxcc")])
def test_neuron_packages_without_a_device_are_never_silently_the_cpu(found):
    missing = tuple(name for name in NEURON_PACKAGES if name not in found)
    machine = replace(LAPTOP, neuron_packages=found, missing_packages=missing)
    with pytest.raises(BackendError) as error:
        detect(machine=machine)
    said = str(error.value)
    assert f"{', '.join(found)} found, but there is no /dev/neuron0: start a trn1 or trn2 instance" in said
    assert f"{', '.join(missing)} not installed: pip install" in said and "WORKSHOP_BACKEND=cpu" in said
    assert detect("cpu", machine).name == "cpu" and len(said.splitlines()) == 1


def test_pypis_torch_xla_alone_is_no_trainium():
    assert detect(machine=replace(LAPTOP, neuron_packages=("torch_xla",))).name == "cpu"


def test_a_trainium_is_one_whose_cores_will_be_used(monkeypatch):
    rehearsal = replace(TRAINIUM, neuron_devices=0, pjrt_device="CPU")
    broken = replace(TRAINIUM, missing_packages=("neuronxcc",))
    machines = (TRAINIUM, NATIVE, rehearsal, broken, LAPTOP)
    assert [has_trainium(machine) for machine in machines] == [True, False, False, False, False]
    monkeypatch.setenv("WORKSHOP_BACKEND", "cpu")
    assert not has_trainium(TRAINIUM)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_where_transformers_has_taken_xla_cpu_and_cuda_are_refused_with_what_works(name):
    machine = replace(LAPTOP, cuda=True, xla_in_use=True)
    with pytest.raises(BackendError, match=f"{name}: transformers was imported where torch_xla is.*make setup"):
        detect(name, machine)
    assert detect("neuron", replace(TRAINIUM, xla_in_use=True)).name == "neuron"


@pytest.mark.parametrize(
    ("arguments", "override", "hidden"),
    [
        ([], "", True),
        ([], "cpu", True),
        ([], "neuron", False),
        (["--method", "orpo", "--backend", "cpu"], "neuron", True),
        (["--backend=neuron", "--bf16", "False"], "cpu", False),
    ],
)
def test_torch_xla_is_hidden_unless_optimum_neuron_trains(arguments, override, hidden):
    code = (
        "import sys; from helpers.backends import set_xla_aside; set_xla_aside(sys.argv[1:]); "
        "print(sys.modules.get('torch_xla', 'as it was'))"
    )
    environment = os.environ | {"WORKSHOP_BACKEND": override}
    command = [sys.executable, "-c", code, *arguments]
    told = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == ("None\n" if hidden else "as it was\n")


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (
            replace(TRAINIUM, neuron_packages=("optimum.neuron",), missing_packages=("torch_xla", "neuronxcc")),
            r"torch_xla, neuronxcc not installed: pip install -r requirements-neuron.txt",
        ),
        (
            replace(TRAINIUM, neuron_packages=(), missing_packages=NEURON_PACKAGES, python=(3, 12)),
            r"this is 3.12: make a 3.11 environment and there pip install .*, or on Trn2 or Trn3 install TorchN",
        ),
        (replace(TRAINIUM, neuron_devices=0), r"there is no /dev/neuron0: start a trn1 or trn2 instance"),
        (replace(LAPTOP, nvidia_driver=True), r"CUDA: torch .* can't use it: install a torch build that fits"),
    ],
)
def test_unusable_accelerators_are_explained_with_the_mend(machine, says):
    with pytest.raises(BackendError, match=says) as error:
        detect(machine=machine)
    assert "WORKSHOP_BACKEND=cpu" in str(error.value)


def test_override_by_argument_and_environment(monkeypatch):
    broken = replace(LAPTOP, nvidia_driver=True)
    assert detect("cpu", broken).reason.startswith("chosen by you; bf16 multiplies")
    monkeypatch.setenv("WORKSHOP_BACKEND", "cpu")
    assert detect(machine=broken).name == "cpu"
    with pytest.raises(ValueError, match="unknown backend 'tpu': choose one of cpu, cuda, neuron, torch-neuron"):
        detect("tpu", LAPTOP)
    for name, says in (("neuron", "not installed"), ("cuda", "no NVIDIA driver"), ("torch-neuron", "TorchNeuron")):
        with pytest.raises(BackendError, match=says):
            detect(name, LAPTOP)


def test_classes_of_the_cpu_are_the_workshops_own():
    from trl import SFTConfig

    from helpers.training.dpo import DPOConfig, DPOTrainer
    from helpers.training.orpo import ORPOConfig, ORPOTrainer
    from helpers.training.sft import SFTTrainer

    backend = detect(machine=LAPTOP)
    assert (backend.trainer("orpo"), backend.config("orpo")) == (ORPOTrainer, ORPOConfig)
    assert (backend.trainer("sft"), backend.config("sft")) == (SFTTrainer, SFTConfig)
    assert (backend.trainer("dpo"), backend.config("dpo")) == (DPOTrainer, DPOConfig)


def test_this_machine_is_read_and_told_in_one_line():
    machine = backends.read_machine()
    assert machine.python == sys.version_info[:2] and machine.cuda == torch.cuda.is_available()
    assert set(machine.neuron_packages) | set(machine.missing_packages) == set(NEURON_PACKAGES)
    told = subprocess.run([sys.executable, "-m", "helpers.backends"], cwd=REPOSITORY, capture_output=True, text=True)
    unmeasured = [re.sub(r"\d+\.\d times.*", "", line) for line in (told.stdout.strip(), backends.explain())]
    assert len(told.stdout.splitlines()) == 1 and unmeasured[0] == unmeasured[1]
    if told.stdout.startswith("Backend cpu"):
        assert "multiplies 3.0 times" in backends.explain({"gflops": 100.0, "bf16_gflops": 300.0}), "the run's speeds"
    assert told.returncode == int(told.stdout.startswith("FAIL")) and told.stdout.startswith(("FAIL  ", "Backend "))
