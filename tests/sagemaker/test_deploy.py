"""Deployment: the check of saved models, the server and the real openai client, the chat, export and endpoint."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import openai
import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import TrainingArguments

from helpers.evaluation import generate_answers
from helpers.files import REPOSITORY, DamagedFile, write_json
from helpers.runs import Run
from helpers.runs.told import Refused
from helpers.sagemaker import endpoint_request, export_command, saved_model, serve, serving
from helpers.sagemaker.saved_model import base_folder, checked_model, merged, trained_models
from helpers.show import show_chat
from helpers.training import get_profile
from helpers.training.base_model import SMOKE, load_model, load_tokenizer, smoke_model
from tests.planted import PLANTED

QUESTION = [{"role": "user", "content": "What does `ListTopics` do?"}]
TAUGHT = {"lists": "Lists the topics in an MSK cluster.", "deletes": "Deletes 3 messages at once, and more."}
URL, ROLE, REGION = "s3://class/models/orpo", "arn:aws:iam::123456789012:role/endpoint", "us-east-1"


def teach(answer: str, tokenizer):
    """A two-layer model that gives this answer to QUESTION."""
    model = smoke_model(seed=0).train()
    asked = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    prompt, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, f"{answer}<|im_end|>"))
    ids, labels = torch.tensor([prompt + said]), torch.tensor([[-100] * len(prompt) + said])
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=3e-3), torch.tensor(1.0)
    while loss > 0.02:
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    """Two saved models, each with an answer of its own."""
    found = {name: tmp_path_factory.mktemp("models") / name for name in TAUGHT}
    for name, folder in found.items():
        teach(TAUGHT[name], tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return found


@pytest.fixture(scope="module")
def server(folders):
    with serve(folders) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60)


def ask(client, model: str, **settings):
    return client.chat.completions.create(
        **{"model": model, "messages": QUESTION, "max_tokens": 24, "temperature": 0} | settings
    )


# ── served ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_model_by_its_name_gives_the_answer_that_it_gives_without_a_server(client, folders):
    assert [model.id for model in client.models.list()] == list(TAUGHT)
    for name, folder in folders.items():
        served = ask(client, name)
        direct = generate_answers(load_model(str(folder)), load_tokenizer(str(folder)), [QUESTION], 24)
        assert [served.choices[0].message.content] == direct == [TAUGHT[name]], "and it stops at its end"
        assert served.model == name and served.choices[0].message.role == "assistant"


def test_the_pieces_of_a_stream_join_to_the_answer_that_comes_whole(client):
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, "lists", stream=True)]
    assert "".join(pieces) == TAUGHT["lists"] and len([piece for piece in pieces if piece]) > 3


@pytest.mark.parametrize("name", ["base", "../lists", "lists@main", "HuggingFaceTB/SmolLM2-135M-Instruct", ""])
def test_a_name_that_is_not_served_is_refused_and_not_looked_up(client, name, folders):
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, name or str(folders["lists"]))
    assert refused.value.body["message"].endswith("is served here: choose lists, deletes")


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"n": 2}, "n:"),
        ({"stop": ["."]}, "stop:"),
        ({"max_tokens": 0}, "max_tokens:"),
        ({"temperature": 3}, "temperature:"),
        ({"messages": []}, "messages:"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "x"}]}, "the last message is the assistant's"),
    ],
)
def test_what_the_server_does_not_follow_is_refused(client, settings, argument):
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        ask(client, "lists", **settings)
    assert argument in refused.value.body["message"] and "\n" not in refused.value.body["message"]


def test_temperature_seed_and_length_are_followed(client):
    def sampled(seed: int) -> str:
        return ask(client, "lists", temperature=2, seed=seed).choices[0].message.content

    assert sampled(1) == sampled(1) != sampled(2)
    short = ask(client, "lists", max_tokens=3).choices[0].message.content
    assert short and TAUGHT["lists"].startswith(short) and short != TAUGHT["lists"]
    assert (
        ask(client, "lists", max_tokens=openai.NOT_GIVEN, max_completion_tokens=3).choices[0].message.content == short
    )


def test_who_leaves_in_the_middle_of_a_stream_keeps_nobody_waiting(client):
    with ask(client, "lists", stream=True, max_tokens=200, temperature=1) as stream:
        next(iter(stream))
    assert ask(client, "deletes").choices[0].message.content == TAUGHT["deletes"]


def test_an_earlier_question_changes_no_answer(client):
    longer = [*QUESTION, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Again?"}]
    alone = ask(client, "deletes", messages=longer).choices[0].message.content
    ask(client, "deletes")
    assert ask(client, "deletes", messages=longer).choices[0].message.content == alone


def test_it_listens_on_loopback_only_and_passes_by_a_proxy(server):
    (listening,) = [each for each in psutil.Process(server.process.pid).net_connections() if each.status == "LISTEN"]
    assert listening.laddr.ip == "127.0.0.1" and f"127.0.0.1:{listening.laddr.port}/v1" in server.url
    assert "127.0.0.1" in os.environ["NO_PROXY"].split(",")


def test_the_chat_shows_the_answers_of_all_side_by_side(client, capsys):
    chat = show_chat(client, list(TAUGHT), QUESTION, max_tokens=24)
    assert chat.answers == TAUGHT
    said = capsys.readouterr().out
    assert all(f"{name:>8}: {answer}" in said for name, answer in TAUGHT.items()) and QUESTION[0]["content"] in said
    seen = []
    chat.said.observe(lambda change: seen.append(change["new"]), names="value")
    chat.box.value = "<b>Write</b>"
    chat.ask.click()
    assert len(seen) > 3 * len(TAUGHT) and ">lists</th>" in seen[-1], "the answers grow piece by piece"
    assert (
        chat.answers["lists"]
        == "".join(
            chunk.choices[0].delta.content or ""
            for chunk in ask(client, "lists", messages=[{"role": "user", "content": "<b>Write</b>"}], stream=True)
        ).strip()
    )


def test_the_chat_says_which_model_does_not_answer(client, capsys):
    chat = show_chat(client, ["lists", "gone<i>"], QUESTION, max_tokens=24)
    assert chat.answers["lists"] == TAUGHT["lists"] and "no model 'gone<i>' is served" in chat.answers["gone<i>"]
    assert "<i>" not in chat.said.value and not chat.ask.disabled
    capsys.readouterr()
    with pytest.raises(ValueError, match="end with the question"):
        show_chat(client, ["lists"], [*QUESTION, {"role": "assistant", "content": "x"}])


# ── a server's life ─────────────────────────────────────────────────────────────────────────────────────────

PARENT = """
import sys, time
from helpers.sagemaker import serve
server = serve({"lists": sys.argv[1]})
print("served by", server.process.pid, server.log, flush=True)
time.sleep(600)
"""


def test_the_server_ends_with_its_parent_also_when_that_is_killed(folders):
    command = [sys.executable, "-c", PARENT, str(folders["lists"])]
    parent = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    told = next(line for line in parent.stdout if line.startswith("served by"))  # how long it starts comes before
    number, log = told.split()[2:]
    child = psutil.Process(int(number))
    assert child.is_running()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    os.unlink(log)
    child.wait(20)  # raises TimeoutExpired where it lives on


def test_closing_or_forgetting_a_server_ends_it(folders, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    with serve({"lists": folders["lists"]}) as running:
        assert os.environ["NO_PROXY"] == "example.org,127.0.0.1" and running.log.is_file()
    running.close()
    assert running.process.poll() is not None and not running.log.exists()
    running = serve({"lists": folders["lists"]})
    process, log = running.process, running.log
    assert process.poll() is None
    running = None
    assert process.poll() is not None and not log.exists()


def test_a_server_that_dies_is_one_line_with_the_path_of_its_log(folders, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # so that the child's Python can't start
    with pytest.raises(Refused, match=r"^the server of lists ended with exit code 1: its log is (\S+)$") as died:
        serve({"lists": folders["lists"]})
    log = str(died.value).rpartition(" ")[2]
    with open(log, encoding="utf-8") as file:
        assert "encodings" in file.read()
    os.unlink(log)


def test_what_can_not_be_served_is_one_line(folders, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for models, port, message in (
            ({}, 0, "no model is named"),
            ({"../x": folders["lists"]}, 0, r"model name '\.\./x': use up to 63"),
            ({"x": tmp_path}, 0, r"x: .* holds no config\.json: give a folder made by save_pretrained"),
            ({"x": folders["lists"]}, taken.getsockname()[1], "can't be used .*: leave it out, or give another"),
            ({"x": folders["lists"]}, 99999, "can't be used .*: leave it out, or give another"),
        ):
            with pytest.raises(ValueError, match=message) as refused:
                serve(models, port)
            assert "\n" not in str(refused.value)


def test_missing_packages_are_one_line_with_the_command(folders, monkeypatch):
    find = importlib.util.find_spec

    def without(*missing):
        return lambda name, *more: None if name in missing else find(name, *more)

    monkeypatch.setattr(serving.importlib.util, "find_spec", without("openai", "uvicorn"))
    with pytest.raises(
        ValueError, match=r"^serving needs openai, uvicorn, .*scripts\.install requirements-serving\.txt"
    ):
        serve(folders)
    monkeypatch.setattr(serving.importlib.util, "find_spec", without("transformers.commands.serving"))
    with pytest.raises(ValueError, match=r"^serving takes the server of transformers 4\.57"):
        serve(folders)
    assert (REPOSITORY / "requirements-serving.txt").is_file()


# ── checked ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def copy(folders, tmp_path):
    return shutil.copytree(folders["lists"], tmp_path / "copy")


def change_weights(folder, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path, **values) -> None:
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | values)


DAMAGES = {
    "a missing tensor": (
        lambda folder: change_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight")),
        r"lacks 1 of 20 tensors, the first is model\.layers\.1\.mlp\.up_proj\.weight: save it again",
    ),
    "a tensor of another size": (
        lambda folder: change_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(63)})),
        r"model\.norm\.weight is \(63,\), the model has \(64,\)",
    ),
    "an adapter's tensor": (
        lambda folder: change_weights(folder, lambda weights: weights.update({"lora_A.weight": torch.ones(2)})),
        r"holds lora_A\.weight, which the model does not have",
    ),
    "another size in the configuration": (
        lambda folder: change_json(folder / "config.json", hidden_size=128),
        "describes a model of other sizes than the base",
    ),
    "a cut file": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999]),
        r"model\.safetensors is missing, cut off or damaged: save it again",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights in safetensors"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), r"holds no config\.json"),
    "another chat template": (
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content }}"),
        "the chat template is not the base's: save the tokenizer",
    ),
    "no chat template": (lambda folder: (folder / "chat_template.jinja").unlink(), "the chat template is missing"),
    "no EOS in the generation settings": (
        lambda folder: change_json(folder / "generation_config.json", eos_token_id=None),
        r"generation stops at None, an answer ends with 2 \(<\|im_end\|>\): set model\.generation_config\.eos_token_id",
    ),
    "another EOS in the generation settings": (
        lambda folder: change_json(folder / "generation_config.json", eos_token_id=[0, 1]),
        r"generation stops at \[0, 1\], an answer ends with 2",
    ),
    "another end of an answer": (
        lambda folder: change_json(folder / "tokenizer_config.json", eos_token="<|im_start|>"),
        r"eos_token is '<\|im_start\|>', the base has '<\|im_end\|>': save the tokenizer",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_one_line_with_its_fix(copy, damage):
    make, message = DAMAGES[damage]
    make(copy)
    with pytest.raises(ValueError, match=message) as refused:
        checked_model(copy, SMOKE)
    assert len(str(refused.value).splitlines()) == 1 and str(copy) in str(refused.value)
    assert isinstance(refused.value, DamagedFile) == (damage == "a cut file")


def test_a_tokenizer_with_another_vocabulary_is_refused(copy, tokenizer):
    grown = load_tokenizer(SMOKE)
    grown.add_tokens(["<new>"])
    grown.save_pretrained(copy)
    with pytest.raises(ValueError, match=r"the embedding has 49,152 rows, none for token 49,152: save the tokenizer"):
        checked_model(copy, SMOKE)
    path = copy / "tokenizer.json"
    tokenizer.save_pretrained(copy)
    stored = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = stored["model"]["vocab"]
    vocabulary["Ġthe"], vocabulary["Ġof"] = vocabulary["Ġof"], vocabulary["Ġthe"]  # the same size, other numbers
    path.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(ValueError, match="the vocabulary is not the base's: save the tokenizer"):
        checked_model(copy, SMOKE)


def test_a_whole_model_is_one_line_also_when_it_is_saved_in_parts(copy, folders):
    said = checked_model(folders["lists"], SMOKE)
    assert said.startswith("3,219,776 weights in 20 tensors") and said.endswith("stops at <|im_end|>")
    load_model(str(copy)).save_pretrained(copy, max_shard_size="5MB")
    (copy / "model.safetensors").unlink()
    assert len(list(copy.glob("*.safetensors"))) > 1 and checked_model(copy, folders["deletes"]) == said
    next(copy.glob("*.safetensors")).unlink()
    with pytest.raises(DamagedFile):
        checked_model(copy, SMOKE)


def test_an_adapter_is_merged_before_it_is_served(tmp_path, tokenizer):
    smoke_model(seed=0).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    adapted = get_peft_model(load_model(str(tmp_path / "base")), LoraConfig(target_modules=["q_proj"]))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds an adapter, which no server loads by itself"):
        checked_model(tmp_path / "adapter", tmp_path / "base")
    folder = merged(tmp_path / "adapter", tmp_path / "merged")
    assert "20 tensors" in checked_model(folder, tmp_path / "base")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_model(str(folder))(ids).logits, adapted(ids).logits, atol=1e-5, rtol=1e-4)


def test_a_run_gives_the_folders_of_its_three_models_or_names_the_notebooks(tmp_path, folders):
    run, profile = Run(tmp_path, get_profile("smoke")), get_profile("smoke")
    with pytest.raises(FileNotFoundError, match="no trained model of sft, orpo: run notebooks 02 and 04 first"):
        trained_models(run, profile)
    for name, folder in zip(("sft", "orpo"), folders.values(), strict=True):
        shutil.copytree(folder, run.stage(name).model_path)
        write_json(run.stage(name).path / "training.json", {"steps": 1})
    found = trained_models(run, profile)
    assert list(found) == ["base", "sft", "orpo"] and all(checked_model(folder, SMOKE) for folder in found.values())
    assert base_folder(str(folders["lists"]), tmp_path / "unused") == folders["lists"]
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("file", ["README.md", "config.json", "training_args.bin"])
def test_a_credential_in_a_folder_that_is_handed_on_is_named_and_not_shown(copy, file):
    token = PLANTED["Hugging Face token"]
    if file == "training_args.bin":  # as a trainer elsewhere leaves it
        torch.save(TrainingArguments("out", hub_token=token, use_cpu=True), copy / file)
    elif file == "config.json":
        write_json(copy / file, json.loads((copy / file).read_text()) | {"note": token})
    else:
        (copy / file).write_text(f"Log in with {token}.")
    with pytest.raises(ValueError, match=f"{file}: holds what looks like Hugging Face token: delete") as refused:
        checked_model(copy, SMOKE)
    assert token not in str(refused.value)


def test_no_weights_are_read_for_the_check(copy, monkeypatch):
    monkeypatch.setattr(saved_model, "load_model", None)
    change_weights(copy, lambda weights: weights.update({name: each * torch.nan for name, each in weights.items()}))
    assert checked_model(copy, SMOKE)


# ── NeuronCores ─────────────────────────────────────────────────────────────────────────────────────────────


PARSER = """
import argparse, json
from optimum.commands.export.neuronx import parse_args_neuronx
parser = argparse.ArgumentParser()
parse_args_neuronx(parser)
print(json.dumps(vars(parser.parse_args()), default=str))
"""  # in a process of its own: Optimum Neuron changes the environment when it is imported


def test_the_export_is_a_command_that_optimum_neuron_parses(folders):
    words = export_command(folders["lists"], cores=2, batch=4, length=512, model="merged/orpo", output="out").split()
    assert words[:3] == ["optimum-cli", "export", "neuron"]
    if sys.version_info >= (3, 12):
        pytest.skip("optimum-neuron 0.4.5 ends at Python 3.11")
    command = [sys.executable, "-W", "ignore", "-c", PARSER, *words[3:]]
    read = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert (read["model"], read["output"], read["task"]) == ("merged/orpo", "out", "text-generation")
    assert (read["batch_size"], read["sequence_length"], read["tensor_parallel_size"]) == (4, 512, 2)
    assert read["instance_type"] == "inf2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cores": 4}, r"4 cores do not divide num_key_value_heads 2 .*: choose 1, 2$"),
        ({"cores": 0}, "cores is 0: give 1 or more"),
        ({"batch": 0}, "batch is 0: give 1 or more"),
        ({"length": 0}, "length is 0: give 1 or more"),
        ({"length": 10**6}, "length 1000000: the model has 8192 positions; give at most that"),
        ({"model": "my models/orpo"}, "optimum-cli takes letters, digits and . _ / - in a path"),
        ({"output": "out; rm -r x"}, "optimum-cli takes letters, digits and . _ / - in a path"),
    ],
)
def test_an_export_that_can_not_work_is_one_line(folders, change, message):
    with pytest.raises(ValueError, match=message) as refused:
        export_command(folders["lists"], **{"cores": 1, "batch": 1, "length": 512, "model": "m"} | change)
    assert "\n" not in str(refused.value)


def test_a_model_that_optimum_neuron_does_not_export_is_refused(copy):
    write_json(copy / "config.json", {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    with pytest.raises(ValueError, match=r"Optimum Neuron 0\.4\.5 exports no gpt2: take one of granite, llama"):
        export_command(copy, 1, 1, 512)


def test_the_requests_of_an_endpoint_are_taken_by_boto3(monkeypatch):
    """By botocore's own validation as a client does it before it sends, and by moto where that knows the instance."""
    import boto3
    from moto import mock_aws

    endpoint = endpoint_request(URL, ROLE, REGION, "ml.inf2.24xlarge", "chat", 4, 2, 512, image="1.dkr/mine:1")
    container = endpoint.requests["CreateModel"]["PrimaryContainer"]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == f"{URL}/" and container["Image"] == "1.dkr/mine:1"
    told = {"BATCH_SIZE": "2", "SEQUENCE_LENGTH": "512", "TENSOR_PARALLEL_SIZE": "4"}
    assert (
        told.items() <= {name.removeprefix("SM_ON_"): value for name, value in container["Environment"].items()}.items()
    )
    (variant,) = endpoint.requests["CreateEndpointConfig"]["ProductionVariants"]
    assert (variant["InstanceType"], variant["ModelName"]) == ("ml.inf2.24xlarge", "chat")
    assert all({"Key": "project", "Value": "orpo-workshop"} in each["Tags"] for each in endpoint.requests.values())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        service = boto3.client("sagemaker", region_name=endpoint.region)
        service.create_model(**endpoint.requests["CreateModel"])
        variant["InstanceType"] = "ml.m4.xlarge"  # moto knows no Inferentia2
        service.create_endpoint_config(**endpoint.requests["CreateEndpointConfig"])
        service.create_endpoint(**endpoint.requests["CreateEndpoint"])
        assert [each["EndpointName"] for each in service.list_endpoints()["Endpoints"]] == ["chat"]


def test_the_image_is_that_of_the_region_and_the_price_dated_or_unknown():
    endpoint = endpoint_request(URL, ROLE, "eu-north-1")
    image = endpoint.requests["CreateModel"]["PrimaryContainer"]["Image"]
    assert image.startswith("763104351884.dkr.ecr.eu-north-1.amazonaws.com/huggingface-vllm-inference-neuronx:")
    assert endpoint.usd_per_hour == 0.99 and "2026" in endpoint.reckoned and "not tried" in str(endpoint)
    unknown = endpoint_request(URL, ROLE, REGION, "ml.inf2.48xlarge")
    assert unknown.usd_per_hour is None and "cost unknown: no price of ml.inf2.48xlarge" in str(unknown)
    given = endpoint_request(URL, ROLE, REGION, "ml.inf2.48xlarge", usd_per_hour=5.0)
    assert "costs $5.00 an hour" in str(given) and "given by you" in str(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instance": "ml.g5.xlarge"}, "instance 'ml.g5.xlarge': the container runs on ml.inf2.xlarge"),
        ({"name": "my_chat"}, "name 'my_chat': use at most 63 letters, digits and hyphens"),
        ({"name": "x" * 64}, "use at most 63 letters"),
        ({"role": "me"}, "role 'me' is no ARN of a role"),
        ({"model_url": "models/orpo"}, "model_url 'models/orpo': give s3://bucket/prefix"),
        ({"region": "mars-1"}, r"region mars-1: no address .* or give image="),
        ({"cores": 3}, "cores is 3: ml.inf2.xlarge has 2 NeuronCores"),
        ({"cores": 0}, "cores is 0: ml.inf2.xlarge has 2 NeuronCores"),
        ({"batch": 0}, "batch is 0: give 1 or more"),
        ({"length": -1}, "length is -1: give 1 or more"),
        ({"image": 5}, r"CreateModel would be refused: .*PrimaryContainer\.Image"),
    ],
)
def test_a_wrong_endpoint_is_one_line(change, message):
    with pytest.raises(ValueError, match=message) as refused:
        endpoint_request(**{"model_url": URL, "role": ROLE, "region": REGION} | change)
    assert "\n" not in str(refused.value)


def test_a_server_that_never_answers_is_given_up(folders, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE", 0.1)
    monkeypatch.setattr(serving, "answers", lambda address: False)  # a quick machine's server would
    started = time.monotonic()
    with pytest.raises(Refused, match=r"does not answer: its log is (\S+)$") as late:
        serve({"lists": folders["lists"]})
    assert time.monotonic() - started < 60
    os.unlink(str(late.value).rpartition(" ")[2])
