"""A checkpoint of which a file was cut off is named before anything is loaded, and a stage takes the one before it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from helpers.runs.folder import Run
from helpers.runs.stage import damaged_file
from helpers.training.profiles import PROFILES
from scripts.train import checkpoint_to_resume

FILES = ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"]


def write_checkpoint(folder):
    """The files of Trainer's checkpoint, small."""
    folder.mkdir(parents=True)
    save_file({"weight": torch.ones(64, 64)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"state": torch.ones(1000)}, folder / name)
    step = int(folder.name.split("-")[1])
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_a_whole_checkpoint_is_followed(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-2")
    assert damaged_file(checkpoint) is None
    assert checkpoint_to_resume(str(checkpoint), tmp_path) == checkpoint_to_resume("True", tmp_path) == str(checkpoint)


@pytest.mark.parametrize("kept", [0, 100, -1], ids=["empty", "a beginning", "all but a byte"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_named(tmp_path, name, kept):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4")
    whole = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(whole[: min(kept, len(whole) - 1)])
    assert damaged_file(checkpoint) == name
    for given in (str(checkpoint), "True"):
        with pytest.raises(ValueError, match=rf"checkpoint-4 is not whole \({name} is missing or cut off\)"):
            checkpoint_to_resume(given, tmp_path)


def test_a_stage_takes_the_checkpoint_before(tmp_path, capsys):
    stage = Run(tmp_path / "run", PROFILES["smoke"]).stage("orpo")
    whole, cut = (write_checkpoint(stage.checkpoints / f"checkpoint-{step}") for step in (2, 4))
    (cut / "optimizer.pt").write_bytes((cut / "optimizer.pt").read_bytes()[:500])
    assert stage.last_checkpoint() == str(whole) and not cut.exists()
    assert "removing checkpoint-4, which was cut off" in capsys.readouterr().out


def test_a_folder_without_a_checkpoint_is_no_checkpoint(tmp_path):
    for given, folder in ((str(tmp_path), tmp_path), (str(tmp_path / "none"), tmp_path), ("True", tmp_path)):
        with pytest.raises(FileNotFoundError, match=r"resume_from_checkpoint: .* no checkpoint"):
            checkpoint_to_resume(given, folder)
