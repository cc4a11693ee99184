"""A job's hyperparameters are read as its container would read them, before anything is created."""

import ast
import importlib.metadata
import sys
from dataclasses import fields, replace

import pytest

from helpers.files import REPOSITORY
from helpers.sagemaker import hyperparameters
from helpers.sagemaker.account import Account
from helpers.sagemaker.job import TrainingJob
from helpers.training.profiles import get_profile
from scripts.train_arguments import ScriptArguments
from tests.sagemaker.test_job import JOB

LARGE = {"instance_type": "ml.trn1.32xlarge", "usd_per_hour": 1.0}


def asking(**settings) -> TrainingJob:
    return replace(JOB, hyperparameters=JOB.hyperparameters | settings)


def annotated(path, name: str) -> dict[str, str]:
    """{argument: its type} of a dataclass, read from its source: its packages need not be here."""
    (found,) = (each for each in ast.parse(path.read_text()).body if getattr(each, "name", "") == name)
    return {each.target.id: ast.unparse(each.annotation) for each in found.body if isinstance(each, ast.AnnAssign)}


def ours(group) -> dict[str, str]:
    source = REPOSITORY / "helpers/sagemaker/hyperparameters.py"
    return annotated(source, group.__name__)


def test_the_scripts_own_arguments_are_those_of_the_script_but_for_what_the_job_sets():
    theirs = annotated(REPOSITORY / "scripts/train_arguments.py", "ScriptArguments")
    set_by_the_job = {*hyperparameters.SET_BY_THE_JOB, "will_it_compile"}
    assert ours(hyperparameters.OfTheScript) == {
        name: kind for name, kind in theirs.items() if name not in set_by_the_job
    }
    assert {each.name for each in fields(ScriptArguments)} == set(theirs)


def test_the_arguments_of_trainium_are_those_of_optimum_neuron_and_of_the_trainers_here():
    pairs = annotated(REPOSITORY / "helpers/neuron/preference.py", "NeuronPreferenceConfig")
    known = vars(hyperparameters.read({"method": "orpo"}))
    assert set(pairs) <= set(known) and set(ours(hyperparameters.OfPairsOnTrainium)) <= set(pairs)
    if sys.version_info >= (3, 12):
        pytest.skip("optimum-neuron 0.4.5 ends at Python 3.11")
    files = importlib.metadata.distribution("optimum-neuron")
    theirs = annotated(files.locate_file("optimum/neuron/trainers/training_args.py"), "NeuronTrainingArguments")
    assert set(theirs) <= {*known, *hyperparameters.SET_BY_THE_JOB}
    own = ours(hyperparameters.OfOptimumNeuron)
    assert own == {name: theirs[name] for name in own}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"betta": 0.1},
            "betta: is no argument of scripts/train.py with method orpo: did you mean beta?",
        ),
        ({"zzz": 1}, "hyperparameters, zzz: is no argument of scripts/train.py with method orpo: leave it out"),
        ({"method": "sft", "beta": 0.1}, "beta: is no argument of scripts/train.py with method sft"),
        ({"beta": "high"}, "hyperparameters, beta: invalid float value: 'high': give a value of that kind"),
        ({"max_steps": "many"}, "hyperparameters, max_steps: invalid int value: 'many'"),
        ({"tensor_parallel_size": "two"}, "hyperparameters, tensor_parallel_size: invalid int value: 'two'"),
        ({"tensor_parallel_size": 2.5}, "invalid int value: '2.5'"),
        ({"pairs": None}, "hyperparameters, pairs: invalid int value: 'None'"),
        ({"bf16": "perhaps"}, "hyperparameters, bf16: Truthy value expected"),
        ({"output_dir": "/tmp"}, "hyperparameters, output_dir: the job sets it: leave it out"),
        ({"resume_from_checkpoint": True}, "resume_from_checkpoint: the job sets it"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: give 1 or more"),
        ({"pipeline_parallel_size": 2}, "the preference loss needs the whole model"),
        (
            {"max_length": 255},
            "max_length 255 is not divisible by tensor_parallel_size 2, as sequence",
        ),
        ({"model": "packaged"}, "does not divide num_attention_heads 9"),
        ({"model": "mistralai/Mistral-7B-v0.3"}, "is a mistral; on Trainium this workshop trains Llama and Qwen3"),
        ({"model": str(REPOSITORY)}, "is a folder, which the job does not get: give a hub id"),
        ({"pairs": 1, "tensor_parallel_size": 1}, "1 pairs do not fill one batch of 2: lower per_device_train_batch"),
    ],
)
def test_what_the_container_would_refuse_is_one_line_before_anything_is_created(settings, says):
    with pytest.raises(ValueError) as told:
        asking(**settings).check()
    assert says in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(("size", "heads"), [(16, "num_key_value_heads 8"), (32, "num_attention_heads 16")])
def test_cores_that_do_not_divide_the_models_heads_are_told_though_they_divide_the_instances(size, heads):
    with pytest.raises(ValueError, match=rf"{size} does not divide {heads}, .*: choose one of 1, 2, 4, 8$"):
        replace(asking(tensor_parallel_size=size), **LARGE).check()
    replace(asking(tensor_parallel_size=8), **LARGE).check()


def test_what_is_sound_passes():
    asking(max_length=255, disable_sequence_parallel=True, zero_1=True, save_steps=0.5, max_response_length=64).check()
    asking(model="nobody/known-here").check()
    replace(JOB, hyperparameters={"method": "sft", "model": "Qwen/Qwen3-0.6B", "completion_only_loss": True}).check()
    replace(JOB, hyperparameters={"method": "dpo", "model": "Qwen/Qwen3-0.6B", "beta": 0.2}).check()


def test_another_instance_than_a_trainium_takes_any_model_and_a_rehearsal_a_folder(tmp_path):
    other = {"instance_type": "ml.g5.xlarge", "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/own:1"}
    one = {"method": "orpo", "model": "mistralai/Mistral-7B-v0.3", "max_length": 255}
    replace(JOB, hyperparameters=one, **other).check()
    rehearsal = Account(JOB.role, JOB.region, JOB.output, tmp_path)
    rehearsal.fit(JOB, replace(get_profile("smoke"), model=str(tmp_path))).check()
