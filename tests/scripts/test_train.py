"""scripts/train.py as a user starts it: all methods, false flags, files as data, a dry run, errors of one line."""

import errno
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from helpers.files import MAKING, REPOSITORY
from helpers.runs import Run
from helpers.training import PROFILES
from helpers.training.recipe import stage_settings
from scripts import train
from scripts.train_arguments import refuse_overwriting
from tests.planted import PLANTED

PAIRS = [
    {"prompt": f"What does call {i} do?", "chosen": f"It lists {i} queues.", "rejected": f"It deletes topic {i}."}
    for i in range(8)
]


HERE = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
HERE |= {"WORKSHOP_BACKEND": "cpu", "HF_HUB_OFFLINE": "1"}
AS_A_USER = {"cwd": REPOSITORY, "env": HERE, "text": True}


def command(folder, *arguments: str) -> list[str]:
    return [sys.executable, "scripts/train.py", "--model", "smoke", "--output_dir", str(folder), *arguments]


def start(folder, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder, *arguments), **AS_A_USER | {"env": HERE | environment}, capture_output=True)


TRAINING = {"train_seconds", "train_tokens_per_second", "resumed_from_step", "precision", "layout", "steps", "pairs"}
TRAINING |= {"peak_memory_bytes"}  # of a notebook's training.json
SHORT = ("--max_steps", "3", "--max_length", "128", "--per_device_train_batch_size", "2", "--bf16", "False")


def records(said: str) -> list[dict]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return folder


@pytest.mark.parametrize("method", ["sft", "orpo", "dpo"])
def test_trains_logs_json_and_writes_the_run_folder(method, data, tmp_path):
    options = ("--method", method, "--data", str(data), "--lora_rank", "4", "--learning_rate", "1e-2")
    done = start(tmp_path / "out", *options, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "Backend cpu: chosen by you; bf16 multiplies" in done.stdout
    logged = records(done.stdout)
    assert [record["step"] for record in logged] == [1, 2, 3]
    assert ("rewards/margins" in logged[0]) == (method != "sft")
    if method == "dpo":
        assert logged[0]["loss"] == pytest.approx(math.log(2), abs=1e-4), "the base model is the reference"
    stage = tmp_path / "out" / method
    assert [json.loads(line) for line in (stage / "log.jsonl").read_text().splitlines()] == logged
    result = json.loads((tmp_path / "out" / "results.json").read_text())["methods"][method]
    assert result["method"] == method and result["steps"] == 3 and result["last_loss"] == logged[-1]["loss"]
    assert (stage / "model" / "adapter_model.safetensors").is_file()
    assert not (stage / "checkpoints").exists()
    read = Run(tmp_path / "out", PROFILES["smoke"]).stage(method)
    assert read.trained and read.training.keys() == TRAINING and read.training["pairs"] == 6
    settings = json.loads((stage / "settings.json").read_text())
    run = SimpleNamespace(source="", measured_machine=lambda: {"gflops": 1})
    noted = stage_settings(PROFILES["smoke"], run, method)
    assert settings.keys() == noted.keys(), "a notebook's"
    assert (settings["steps"], settings["pairs_per_step"], settings["lora_rank"]) == (3, 2, 4)


@pytest.mark.parametrize(("method", "precision"), [("sft", "float32"), ("dpo", "bf16"), ("orpo", "bf16")])
def test_without_being_told_every_method_takes_the_precision_of_the_backend(method, precision, data, tmp_path):
    """TRL's configs ask for bf16 on a GPU where nothing is said, and end on a machine that has none."""
    options = ("--method", method, "--data", str(data), *SHORT[: SHORT.index("--bf16")])
    done = start(tmp_path / "out", *options, WORKSHOP_PRECISION=precision)
    assert done.returncode == 0, done.stderr
    assert len(records(done.stdout)) == 3
    arguments = train.parse(["--method", method, "--output_dir", str(tmp_path), "--backend", "cpu", "--bf16", "False"])[
        2
    ]
    assert not arguments.bf16 and arguments.use_cpu and not arguments.gradient_checkpointing, "what is told, counts"


def test_data_and_model_folder_come_from_sagemakers_variables(data, tmp_path):
    model, token = tmp_path / "model", PLANTED["Hugging Face token"]
    places = {"SM_CHANNEL_TRAIN": str(data), "SM_MODEL_DIR": str(model), "HF_TOKEN": token}
    done = start(tmp_path / "out", "--method", "orpo", *SHORT, **places)
    assert done.returncode == 0, done.stderr
    assert "8 pairs" in done.stdout and (model / "model.safetensors").is_file()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert model / "training_args.bin" in left and tmp_path / "out" / "results.json" in left
    assert not [path for path in left if token.encode() in path.read_bytes()], "the job's token is in no file"
    assert token not in done.stdout + done.stderr


def test_precompiling_takes_few_steps_and_saves_nothing(data, tmp_path):
    options = ("--method", "orpo", "--data", str(data), "--max_steps", "50", "--max_length", "128", "--bf16", "False")
    done = start(tmp_path / "out", *options, NEURON_EXTRACT_GRAPHS_ONLY="1")
    assert done.returncode == 0, done.stderr
    assert "Precompiling: 3 steps are traced, nothing is saved" in done.stdout and len(records(done.stdout)) == 3
    assert not (tmp_path / "out").exists()


def test_a_run_folder_holds_one_run(data, tmp_path):
    """Started again, it begins anew, and nothing of the first run is left; a checkpoint is gone on from when named."""
    out, options = tmp_path / "out", ("--method", "orpo", "--data", str(data), *SHORT)
    assert start(out, *options).returncode == 0
    (out / "orpo" / "model" / "left_over").touch()
    refused = start(out, *options, "--max_steps", "2")
    assert refused.returncode == 1 and "holds a trained model: name another --output_dir" in refused.stderr
    assert len((out / "orpo" / "log.jsonl").read_text().splitlines()) == 3, "nothing was touched"
    again = start(out, *options, "--max_steps", "2", "--learning_rate", "1e-3", "--overwrite_output_dir", "True")
    assert again.returncode == 0 and "Trained 2 steps" in again.stdout, again.stderr
    assert [record["step"] for record in map(json.loads, (out / "orpo" / "log.jsonl").open())] == [1, 2]
    assert json.loads((out / "results.json").read_text())["methods"]["orpo"]["steps"] == 2
    assert not (out / "orpo" / "model" / "left_over").exists()


def new_start(out, *arguments: str, capsys) -> str:
    """What scripts/train.py says in this process."""
    capsys.readouterr()
    assert train.main([*command(out)[2:], "--backend", "cpu", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("method", ["sft", "orpo"])
def test_a_new_start_goes_on_with_the_adapter_of_its_checkpoint(method, data, tmp_path, monkeypatch, capsys):
    out, options = tmp_path / "out", ("--method", method, "--data", str(data), *SHORT, "--save_steps", "1")
    options += ("--lora_rank", "4", "--learning_rate", "1e-2")
    with monkeypatch.context() as killed:
        killed.setattr(train, "finish", lambda *_: None)
        new_start(out, *options, capsys=capsys)
    checkpoints = out / method / "checkpoints"
    before = load_file(checkpoints / "checkpoint-3" / "adapter_model.safetensors")
    wrong = ["--lora_rank", "8", "--start_from_checkpoint", "True"]
    assert train.main([*command(out)[2:], "--backend", "cpu", *options, *wrong]) == 1
    assert "checkpoint-3 has an adapter of rank 4: give lora_rank 4, not 8" in capsys.readouterr().err
    said = new_start(out, *options, "--learning_rate", "0", "--start_from_checkpoint", "True", capsys=capsys)
    assert [each["step"] for each in records(said)] == [3], "killed after the last checkpoint: the last step again"
    after = load_file(out / method / "model" / "adapter_model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_new_start_that_would_be_another_training_is_refused(data, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"global_step": 2}')
    start = ["--backend", "cpu", "--data", str(data), "--start_from_checkpoint", str(checkpoint), *SHORT]
    for method, more, says in (
        ("dpo", (), "DPO's reference is the model before the first step, which checkpoint-2 is no longer"),
        ("orpo", ("--resume_from_checkpoint", str(checkpoint)), "are both given: leave one of them out"),
        ("orpo", ("--start_from_checkpoint", "nowhere"), "start_from_checkpoint: nowhere is no checkpoint folder"),
    ):
        assert train.main([*command(tmp_path / "out", "--method", method, *start, *more)[2:]]) == 1
        assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_stopped_run_goes_on_from_the_checkpoint_that_is_named(data, tmp_path, capsys):
    options = ("--method", "orpo", "--data", str(data), *SHORT, "--max_steps", "6", "--save_steps", "1")
    whole = records(start(tmp_path / "whole", *options).stdout)
    out = tmp_path / "out"
    with subprocess.Popen(command(out, *options), **AS_A_USER, stdout=subprocess.PIPE) as stopped:
        while not list(out.glob("orpo/checkpoints/checkpoint-3/trainer_state.json")):
            assert stopped.stdout.readline(), "it ended by itself"
        stopped.kill()
    shutil.copytree(out, tmp_path / "again")
    missing = start(out, *options, "--resume_from_checkpoint", str(tmp_path / "nowhere"))
    assert missing.returncode == 1 and "train.py: " in missing.stderr and "nowhere" in missing.stderr
    gone_on = start(out, *options, "--resume_from_checkpoint", str(out / "orpo" / "checkpoints" / "checkpoint-2"))
    assert [record["step"] for record in records(gone_on.stdout)] == [3, 4, 5, 6], gone_on.stderr
    log = [json.loads(line) for line in (out / "orpo" / "log.jsonl").open()]
    assert [(record["step"], record["loss"]) for record in log] == [
        (record["step"], record["loss"]) for record in whole
    ]
    again = tmp_path / "again"  # as the kill left it
    checkpoint = again / "orpo" / "checkpoints" / "checkpoint-2"
    shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    said = new_start(again, *options, "--start_from_checkpoint", str(checkpoint), capsys=capsys)
    assert "New start from the weights of checkpoint-2, with 4 of 6 steps and the rest of the learning-rate" in said
    assert "Not restored: the optimizer's moments" in said and "the order of the pairs" in said
    left = records(said)
    assert [record["step"] for record in left] == [3, 4, 5, 6]
    assert [each["learning_rate"] for each in left] == [each["learning_rate"] for each in whole[2:]]
    kept = [json.loads(line) for line in (again / "orpo" / "log.jsonl").open()]
    assert [each["step"] for each in kept] == [1, 2, 3, 4, 5, 6] and kept[:2] == log[:2]
    assert json.loads((again / "orpo" / "training.json").read_text())["resumed_from_step"] == 2
    other = new_start(
        tmp_path / "other", *options, "--model", str(tmp_path / "checkpoint-2"), "--save_strategy", "no", capsys=capsys
    )
    assert left[0]["loss"] == records(other)[0]["loss"], "the checkpoint's model, on the pairs that a start begins with"


def test_what_a_stopped_run_left_is_replaced_only_when_told(data, tmp_path):
    out, options = tmp_path / "out", ("--method", "orpo", "--data", str(data), *SHORT)
    left = out / "orpo" / "checkpoints" / "checkpoint-9"
    left.mkdir(parents=True)
    (left / "trainer_state.json").write_text('{"global_step": 9}')
    refused = start(out, *options)
    assert refused.returncode == 1 and "holds checkpoints of a stopped run" in refused.stderr
    assert "go on with --resume_from_checkpoint True, or replace it with --overwrite" in refused.stderr
    assert left.is_dir()
    again = start(out, *options, "--overwrite_output_dir", "True", "--save_steps", "2", "--save_strategy", "steps")
    assert again.returncode == 0 and not left.exists(), "a run that is stopped now can't go on from an older one"


def test_a_checkpoint_from_elsewhere_is_no_leave_to_replace_a_model(tmp_path):
    stage = Run(tmp_path / "out", None).stage("orpo")
    stage.model_path.mkdir(parents=True)
    (stage.model_path / "model.safetensors").touch()
    script = SimpleNamespace(overwrite_output_dir=False)
    refuse_overwriting(script, str(stage.checkpoints / "checkpoint-2"), stage, stage.model_path)
    with pytest.raises(ValueError, match="holds a trained model"):
        refuse_overwriting(script, str(tmp_path / "another" / "checkpoint-2"), stage, stage.model_path)


def test_two_trainings_do_not_write_into_one_folder(data, tmp_path):
    out = tmp_path / "out"
    holder = (
        "import sys, pathlib; from helpers.runs import Run\n"
        "Run(pathlib.Path(sys.argv[1]), None).stage('orpo').reserve(); print('held', flush=True); sys.stdin.read()"
    )
    waiting = [sys.executable, "-c", holder, str(out)]
    with subprocess.Popen(waiting, **AS_A_USER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == "held\n"
        second = start(out, "--method", "orpo", "--data", str(data), *SHORT)
        first.stdin.close()
    last = second.stderr.strip().splitlines()[-1]
    assert second.returncode == 1 and last.startswith("train.py: out: another process trains this stage"), second.stderr
    assert "--output_dir" in last and not (out / "orpo" / "log.jsonl").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line(error, monkeypatch, capsys, tmp_path):
    def fill(*_):
        raise error

    monkeypatch.setattr(train, "train", fill)
    assert train.main(["--method", "orpo", "--backend", "cpu", "--output_dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"train.py: {tmp_path}: No space left on device: ") and "another --output_dir" in said


def test_a_save_that_finds_the_disk_full_leaves_no_model_and_the_next_run_trains(data, tmp_path, monkeypatch, capsys):
    def fill(_, folder, **__):
        assert "model.safetensors" in os.listdir(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    out, arguments = tmp_path / "out", ("--method", "orpo", "--backend", "cpu", "--data", str(data), *SHORT)
    with monkeypatch.context() as full:
        full.setattr(PreTrainedTokenizerFast, "save_pretrained", fill)
        assert train.main([*command(out, *arguments)[2:], "--save_strategy", "no"]) == 1
    assert "no space is left" in capsys.readouterr().err.splitlines()[-1] and not (out / "orpo" / "model").exists()
    assert train.main([*command(out, *arguments)[2:], "--save_strategy", "no"]) == 0
    assert (out / "orpo" / "model" / "config.json").is_file() and not (out / "orpo" / "model" / MAKING).exists()


def test_cores_that_disagree_with_torchruns_processes_are_refused_before_anything_is_loaded(tmp_path):
    done = start(tmp_path / "out", "--method", "orpo", LOCAL_WORLD_SIZE="2", NEURON_RT_VISIBLE_CORES="0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("train.py: cores=2, but NEURON_RT_VISIBLE_CORES=0 gives 1: unset it, or ask for cores=1\n")


def test_a_worker_ends_with_a_torchrun_that_is_killed(data, tmp_path):
    worker = command(tmp_path / "out", "--method", "orpo", "--data", str(data), *SHORT, "--max_steps", "100000")
    torchrun = f"import subprocess, time; print(subprocess.Popen({worker}).pid, flush=True); time.sleep(600)"
    environment = HERE | {"LOCAL_WORLD_SIZE": "1"}
    starting = [sys.executable, "-c", torchrun]
    with subprocess.Popen(starting, **AS_A_USER | {"env": environment}, stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        assert "Backend" in process.stdout.readline()
        process.kill()
        deadline = time.monotonic() + 20
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            assert time.monotonic() < deadline, "it trains on"
            time.sleep(0.1)


def test_an_output_folder_that_cannot_be_made_is_one_line(data, tmp_path):
    (tmp_path / "file").touch()
    done = start(tmp_path / "file" / "out", "--method", "orpo", "--data", str(data), *SHORT)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("train.py: ") and "Not a directory" in last


def test_the_run_folder_of_a_sagemaker_job_is_where_sagemaker_keeps_it(tmp_path):
    arguments = ["--method", "orpo", "--backend", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path))
        assert train.parse(arguments)[2].output_dir == str(tmp_path)
        assert train.parse([*arguments, "--output_dir", "mine"])[2].output_dir == "mine"


def test_a_cpu_compiles_no_graphs_and_says_so(tmp_path):
    done = start(tmp_path / "out", "--method", "orpo", "--will_it_compile", "True", *SHORT)
    assert (done.returncode, done.stdout) == (0, "no: cpu compiles no graphs\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "orpo", "--data", "nowhere.jsonl"), "no preference data at nowhere.jsonl"),
        (("--method", "orpo", "--model", "./nowhere"), "there is no folder ./nowhere"),
        (("--method", "orpo", "--backend", "neuron"), "not installed"),
        (("--method", "orpo", "--beta", "-1"), "beta is -1.0"),
        (("--method", "orpo", "--layout", "packed"), "layout 'packed': choose 'shared' or 'rows'"),
        (("--method", "orpo", "--max_steps", "0"), "max_steps is 0"),
        (("--method", "orpo", "--fp16", "True"), "fp16 needs a CUDA GPU"),
        (("--method", "orpo", "--lora_rank", "-2"), "lora_rank is -2: give 1 or more, or 0"),
        (("--method", "sft", "--pairs", "0"), "pairs is 0: give 1 or more"),
        (("--method", "orpo", "--max_length", "many"), "argument --max_length/--max-length: invalid int value: 'many'"),
        (("--method", "kto"), "invalid choice: 'kto' (choose from 'sft', 'orpo', 'dpo'); --help lists"),
        (("--method", "dpo", "--margin", "1"), "--margin is no argument of --method dpo"),
        (("--method", "sft", "--fsdp", "full_shard"), "fsdp can't be followed: accelerate splits no model on a CPU"),
        (("--method", "sft", "--deepspeed=zero.json"), "deepspeed can't be followed: it is untried here"),
        (("--method", "orpo", "--gradient_accumulation_steps", "0"), "gradient_accumulation_steps is 0: give a pos"),
        (("--method", "dpo", "--loss_type", "ipo"), "loss_type can't be followed: this is the paper's DPO"),
        (
            ("--method", "sft", "--hub_token", "any"),
            "--hub_token looks like a credential, which the process list would",
        ),
        (("--method", "sft", "--hub_token=any"), "set the environment variable HF_TOKEN (in a job: token_secret="),
        (("--method", "sft", "--run_name", PLANTED["GitHub Token"]), "--run_name looks like a credential"),
        (("--method", "sft", PLANTED["AWS Access Key"]), "looks like a credential"),
    ],
)
def test_errors_are_one_line(options, says, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORKSHOP_BACKEND", "cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert train.main(["--model", "smoke", "--output_dir", str(tmp_path / "out"), *SHORT, *options]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("train.py: ") and says in last
    assert not any(planted in last for planted in PLANTED.values())
    assert not (tmp_path / "out").exists()


def test_a_batch_that_is_larger_than_the_data_is_named_where_it_would_be_dropped(data, tmp_path):
    options = ("--method", "sft", "--data", str(data), "--per_device_train_batch_size", "9", "--num_train_epochs", "1")
    done = start(tmp_path / "out", *options, "--dataloader_drop_last", "True", "--bf16", "False")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("train.py: train_dataset has 8 rows, fewer than a batch of 9"), last


def test_a_broken_row_is_named(tmp_path):
    (tmp_path / "mine.jsonl").write_text(json.dumps(PAIRS[0]) + "\n" + json.dumps(PAIRS[1] | {"chosen": " "}) + "\n")
    done = start(tmp_path / "out", "--method", "sft", "--data", str(tmp_path / "mine.jsonl"), *SHORT)
    assert done.returncode == 1 and "row 1, chosen: the response is empty" in done.stderr


CPU = ("--backend", "cpu", "--bf16", "False", "--output_dir", "out")


def settled(*arguments: str):
    script, backend, args = train.parse([*CPU, *arguments])
    return train.settle(script, backend, args, precompiling=False)


def test_what_is_logged_and_where_follows_what_is_given(monkeypatch):
    monkeypatch.setenv("WORKSHOP_BACKEND", "cpu")
    silent = settled("--method", "orpo")
    assert (silent.logging_steps, silent.report_to, silent.disable_tqdm) == (1, [], True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    told = settled(
        "--method", "dpo", "--logging_steps", "5", "--report_to", "tensorboard,mlflow", "--disable_tqdm", "0"
    )
    assert (told.logging_steps, told.report_to, told.disable_tqdm) == (5, ["tensorboard", "mlflow"], False)
    assert told.precompute_ref_log_probs, "no second model is kept"
    with pytest.raises(ValueError, match="precompute_ref_log_probs=False can't be followed"):
        settled("--method", "dpo", "--precompute_ref_log_probs", "False")


def test_the_workshops_variables_are_defaults_here_too(monkeypatch):
    monkeypatch.setenv("WORKSHOP_SEED", "7")
    monkeypatch.setenv("WORKSHOP_MODEL", "smoke")
    script, _, args = train.parse([*CPU, "--method", "orpo"])
    assert (script.model, args.seed) == ("smoke", 7)
    script, _, args = train.parse([*CPU, "--method", "orpo", "--model", "packaged", "--seed", "3"])
    assert (script.model, args.seed) == ("packaged", 3)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_reporter_whose_package_is_missing_is_named_with_its_fix(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=f"report_to {name} needs the package {name}: pip install {name}"):
        settled("--method", "orpo", "--report_to", name)


@pytest.mark.parametrize(
    ("method", "option", "value", "says"),
    [
        ("orpo", "do_eval", "True", "do_eval can't be followed: train.py evaluates nothing"),
        ("sft", "eval_strategy", "epoch", "^eval_strategy can't be followed: train.py evaluates nothing"),
        (
            "dpo",
            "max_completion_length",
            "9",
            "max_completion_length can't be followed: only an encoder-decoder model has it",
        ),
        ("sft", "assistant_only_loss", "True", "assistant_only_loss can't be followed"),
    ],
)
def test_what_nothing_would_act_on_is_refused(method, option, value, says):
    with pytest.raises(ValueError, match=says):
        settled("--method", method, f"--{option}", value)


def test_logging_every_other_step_and_with_a_bar_leaves_whole_json_lines(data, tmp_path):
    options = ("--method", "orpo", "--data", str(data), "--logging_steps", "2", "--disable_tqdm", "False")
    done = start(tmp_path / "out", *options, *SHORT)
    assert done.returncode == 0, done.stderr
    assert [record["step"] for record in records(done.stdout)] == [2]
    assert "3/3" in done.stderr, "the bar"
