"""A stage that is trained, stopped, gone on with, trained with other settings, and read back."""

import errno
import json
import math
import os
import shutil
import signal
import weakref
from dataclasses import replace

import pytest
import torch
from datasets import concatenate_datasets
from transformers import TrainerCallback, set_seed

from helpers.data.collate import PreferenceCollator
from helpers.evaluation.heldout import evaluate
from helpers.evaluation.tables import comparison_table
from helpers.files import DamagedFile
from helpers.runs.folder import Run
from helpers.runs.told import Refused, RunFirst, Stopped
from helpers.show.widgets import LiveMonitor
from helpers.training import stages
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora, training_arguments
from helpers.training.stages import find_stage, load_trained, train_stage

SMOKE = replace(PROFILES["smoke"], steps=5, pairs_per_step=2, save_every=100, train_pairs=4)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
    return run


class Session:
    """What the cells of a notebook make: the stage, a trainer of a fresh base, the monitor."""

    def __init__(self, run, tokenized, tokenizer, profile=SMOKE, **arguments):
        self.stage = find_stage(run, profile, "orpo")
        batch = PreferenceCollator(tokenizer.pad_token_id)(list(tokenized))
        self.monitor = LiveMonitor([batch], self.stage, every=2, share=math.inf)
        set_seed(0)
        self.trainer = ORPOTrainer(
            model=smoke_model(),
            args=ORPOConfig(**training_arguments(profile, run, self.stage) | {"beta": profile.beta} | arguments),
            train_dataset=tokenized,
            processing_class=tokenizer,
            peft_config=lora(profile),
            callbacks=[self.monitor],
        )

    def train(self) -> None:
        train_stage(self.trainer, self.stage, self.monitor)

    def interrupt_at(self, step: int, times: int = 1) -> None:
        """Train, and press the stop button in the middle of a step."""
        press = Press(step, times)
        self.trainer.add_callback(press)
        try:
            self.train()
        finally:
            self.trainer.remove_callback(press)

    def steps(self) -> list[int]:
        return [record["step"] for record in self.stage.read_log()]


class Press(TrainerCallback):
    def __init__(self, step: int, times: int):
        self.step, self.times = step, times

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def session(run, tokenized, tokenizer):
    """Sessions on twelve pairs: no step goes round them a second time, in an order that a resumed Trainer forgets."""
    rows = concatenate_datasets([tokenized] * 3)
    return lambda profile=SMOKE, **arguments: Session(run, rows, tokenizer, profile, **arguments)


def weights(stage) -> dict[str, torch.Tensor]:
    return load_trained(stage).state_dict()


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_what_is_read_back_is_what_was_trained(session):
    begun = session()
    trained, base = begun.trainer.model, smoke_model()
    begun.train()
    batch = {"input_ids": torch.tensor([[5, 6, 7]])}
    trained.eval()
    with torch.no_grad():
        logits = [model(**batch).logits for model in (load_trained(begun.stage), trained, base)]
    assert torch.allclose(logits[0], logits[1], atol=1e-5) and not torch.allclose(logits[0], logits[2], atol=1e-5)


def test_a_trained_model_is_in_memory_once_and_the_trainer_says_where_it_is(session):
    """The saved one is evaluated; a stopped training keeps the trainer's, to go on with."""
    begun = session()
    model = weakref.ref(begun.trainer.model)
    with pytest.raises(Stopped):
        begun.interrupt_at(3)
    assert model() is begun.trainer.model
    begun.train()
    assert model() is None
    said = r"gave its model back when orpo was trained, .* load_trained\(stage\) reads it; to train again, run the tr"
    for ask in (lambda: begun.trainer.model.print_trainable_parameters(), lambda: begun.trainer.model.eval()):
        with pytest.raises(Refused, match=said):
            ask()
    shutil.rmtree(begun.stage.path)
    with pytest.raises(Refused, match="trained already, as orpo: run the trainer's cell again"):
        begun.train()


def test_a_model_that_is_given_back_changes_no_score(session, run, pairs, tokenizer, tmp_path, monkeypatch):
    measured = []
    for name, give_back in (("given back", stages.give_model_back), ("kept", lambda *_: None)):
        monkeypatch.setattr(stages, "give_model_back", give_back)
        run.path = tmp_path / name
        run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
        begun = session()
        begun.train()
        evaluate(run, "orpo", load_trained(begun.stage), tokenizer, pairs, SMOKE)
        measured.append((run.path / "orpo" / "heldout.json").read_bytes())
        assert isinstance(begun.trainer.model, stages.GivenBack) is (name == "given back")
    assert measured[0] == measured[1], "log-probs of every pair, and all answers"


def test_the_training_cell_run_again_trains_nothing(session, capsys):
    begun = session()
    begun.train()
    first = weights(begun.stage)
    for again in (begun, session()):
        again.train()
        assert "orpo is trained already (5 steps): nothing to do" in capsys.readouterr().out
        assert again.steps() == [1, 2, 3, 4, 5] and same(first, weights(again.stage))


def test_a_kill_after_the_last_checkpoint_costs_no_step_and_adds_none(session):
    begun = session(replace(SMOKE, save_every=5))
    begun.train()
    first = weights(begun.stage)
    (begun.stage.path / "training.json").unlink()
    shutil.rmtree(begun.stage.model_path)
    again = session()
    again.train()
    assert again.steps() == [1, 2, 3, 4, 5] and again.trainer.state.global_step == 5
    assert same(first, weights(again.stage)) and again.stage.training["steps"] == 5


@pytest.mark.parametrize("restarted", [False, True], ids=["the same kernel", "a new kernel"])
def test_the_stop_button_keeps_the_step_and_the_rest_is_as_without_it(session, run, restarted, tmp_path):
    begun, before = session(), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=r"^orpo: stopped at step 3 of 5\. Run this cell again: it goes on from"):
        begun.interrupt_at(3)
    assert signal.getsignal(signal.SIGINT) is before
    halfway = weights(begun.stage)
    assert begun.steps() == [1, 2, 3] and not begun.stage.trained
    (session() if restarted else begun).train()
    assert begun.steps() == [1, 2, 3, 4, 5] and [line["step"] for line in begun.stage.read_monitor()] == [0, 2, 3, 4, 5]
    interrupted, losses = weights(begun.stage), [record["loss"] for record in begun.stage.read_log()]
    run.path = tmp_path / "another"
    run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
    through = session()
    through.train()
    assert same(interrupted, weights(through.stage)) and not same(interrupted, halfway)
    assert losses == [record["loss"] for record in through.stage.read_log()]


def test_a_second_interrupt_stops_at_once_and_the_half_trained_model_is_not_trained_on(session):
    begun = session()
    with pytest.raises(Stopped, match=r"nothing trained yet \(stopped within a step\)\. Run the trainer's cell again"):
        begun.interrupt_at(3, times=2)
    with pytest.raises(RuntimeError, match="trained already, as orpo: run the trainer's cell again, it loads the base"):
        begun.train()
    again = session()
    again.train()
    assert again.steps() == [1, 2, 3, 4, 5]


def test_a_stopped_model_is_measured_and_the_rest_can_still_be_trained(session, run, pairs, tokenizer):
    begun = session()
    with pytest.raises(Stopped):
        begun.interrupt_at(3)
    result = evaluate(run, "orpo", load_trained(begun.stage), tokenizer, pairs, SMOKE)
    assert result["steps"] == 3 and run.results["methods"]["orpo"] == result
    begun.train()
    assert "orpo" not in run.results["methods"], "it was that of another model"
    assert evaluate(run, "orpo", load_trained(begun.stage), tokenizer, pairs, SMOKE)["steps"] == 5
    assert not begun.stage.checkpoints.exists()


def test_another_beta_is_another_stage_that_starts_from_the_base(session, run, capsys):
    first = session()
    first.train()
    before = {path: path.read_bytes() for path in first.stage.path.rglob("*") if path.is_file()}
    capsys.readouterr()
    other = session(replace(SMOKE, beta=0.25))
    assert other.stage.name == "variants/orpo-beta-0.25"
    assert "beside orpo, which stays as it is: beta 0.25 in place of 1.0." in capsys.readouterr().out
    other.train()
    assert other.stage.read_monitor()[0]["chosen_logp"] == first.stage.read_monitor()[0]["chosen_logp"]
    assert {path: path.read_bytes() for path in first.stage.path.rglob("*") if path.is_file()} == before
    assert session().stage.name == "orpo" and session(replace(SMOKE, beta=0.25)).stage.trained


@pytest.mark.parametrize("change", [{"learning_rate": 0.002}, {"train_pairs": 3}, {"seed": 7}, {"lora_rank": 0}])
def test_what_decides_a_training_names_its_stage(session, run, change):
    session().train()
    ((name, value),) = change.items()
    assert find_stage(run, replace(SMOKE, **change), "orpo").name == f"variants/orpo-{name}-{value}"


def test_beta_is_no_setting_of_sft(run):
    stage = find_stage(run, SMOKE, "sft")
    assert find_stage(run, replace(SMOKE, beta=4.0), "sft").settings == stage.settings and "beta" not in stage.settings


def test_a_trainer_of_other_settings_than_its_stage_is_refused(session):
    begun = session(learning_rate=0.5)
    with pytest.raises(RuntimeError, match=r"has learning_rate=0.5, the stage orpo has learning_rate 0.001: set"):
        begun.train()
    assert not (begun.stage.path / "settings.json").exists()


def test_a_trained_model_is_not_taken_for_the_base(session):
    session().train()
    other = session(replace(SMOKE, beta=0.25))
    other.trainer.model = other.trainer.model_wrapped = load_trained(session().stage)
    with pytest.raises(RuntimeError, match="trained already, as orpo"):
        other.train()
    assert not (other.stage.path / "settings.json").exists()


def test_the_model_of_another_stage_is_not_measured_as_this_one(session, run, pairs, tokenizer):
    session().train()
    with pytest.raises(RuntimeError, match="this is the model of orpo, not of sft: run the cell that loads"):
        evaluate(run, "sft", load_trained(session().stage), tokenizer, pairs, SMOKE)


def test_nothing_to_read_back_names_the_cell(session):
    with pytest.raises(FileNotFoundError, match="orpo has no trained model yet: run the cell that trains it first"):
        load_trained(session().stage)


def test_what_was_measured_is_not_measured_again(session, run, pairs, tokenizer, capsys):
    session().train()
    model = load_trained(session().stage)
    first = evaluate(run, "orpo", model, tokenizer, pairs, SMOKE)
    run.write_results(orpo_minus_sft={"gain": 1})
    written = (run.path / "results.json").stat().st_mtime_ns
    assert evaluate(run, "orpo", model, tokenizer, pairs, SMOKE) == first
    assert "orpo: measured before" in capsys.readouterr().out
    assert (run.path / "results.json").stat().st_mtime_ns == written
    assert evaluate(run, "orpo", model, tokenizer, pairs.select(range(3)), SMOKE)["n"] == 3


def test_methods_that_were_not_trained_alike_are_named_in_their_table(session, run, pairs, tokenizer):
    methods = {}
    for profile in (SMOKE, replace(SMOKE, beta=0.25)):
        begun = session(profile)
        begun.train()
        methods[begun.stage.name] = evaluate(
            run, begun.stage.name, load_trained(begun.stage), tokenizer, pairs, profile
        )
    table = comparison_table(methods)
    assert "| ORPO beta 0.25 " in table
    assert table.endswith("Not trained alike: beta is ORPO 1.0, ORPO beta 0.25 0.25.")
    assert "Not trained alike" not in comparison_table({"orpo": methods["orpo"]})
    stored = json.loads((run.path / "results.json").read_text())
    assert list(stored["methods"]) == ["orpo"] and list(stored["variants"]["stages"]) == ["orpo-beta-0.25"]


def test_a_disk_that_is_full_is_one_line_and_the_training_goes_on_from_its_checkpoint(
    run, tokenized, tokenizer, monkeypatch
):
    def fill(*_, **__):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    session = Session(run, tokenized, tokenizer, replace(SMOKE, save_every=2))
    monkeypatch.setattr("helpers.training.stages.save_trained", fill)
    with pytest.raises(Refused, match="No space left on device: no space is left: free some, or set WORKSHOP_RUNS"):
        session.train()
    assert not session.stage.training and session.stage.last_checkpoint()


def test_a_save_that_finds_the_disk_full_leaves_no_model_and_the_training_goes_on(
    run, tokenized, tokenizer, monkeypatch
):
    """The weights are there, the tokenizer finds no room: what is there is no trained model."""

    def fill(folder, *_, **__):
        assert os.listdir(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    session = Session(run, tokenized, tokenizer, replace(SMOKE, save_every=2))
    with monkeypatch.context() as full:
        full.setattr(type(session.trainer.processing_class), "save_pretrained", lambda _, folder, *__: fill(folder))
        with pytest.raises(Refused, match="no space is left"):
            session.train()
    assert not session.stage.model_path.exists() and not session.stage.trained and not session.stage.training
    with pytest.raises(RunFirst):
        load_trained(session.stage)
    again = Session(run, tokenized, tokenizer, replace(SMOKE, save_every=2))
    again.train()
    assert again.stage.trained and load_trained(again.stage)


def test_a_trained_model_that_was_cut_off_is_named_and_can_be_trained_again(session):
    begun = session()
    begun.train()
    cut = begun.stage.model_path / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(DamagedFile, match=rf"{cut} .*: delete the folder {begun.stage.path}, then train again"):
        load_trained(begun.stage)
    shutil.rmtree(begun.stage.path)
    again = session()
    again.train()
    assert load_trained(again.stage)


def test_a_model_folder_that_was_deleted_is_trained_again(session):
    begun = session()
    begun.train()
    shutil.rmtree(begun.stage.model_path)
    assert not begun.stage.trained
    with pytest.raises(RunFirst):
        load_trained(begun.stage)
