"""The stop button of a training cell, clicked as JupyterLab clicks it: in a real kernel, while the cell runs."""

import time

import pytest

from helpers.files import read_lines
from helpers.show.stop_button import stop_button
from tests.notebook_kernel import WAIT, Cells

STEPS = 40
CELL = f"""
import sys
sys.path.insert(0, "..")
from dataclasses import replace
from pathlib import Path
from helpers.data.tokenize import tokenize_preferences
from helpers.runs.folder import Run
from helpers.training.base_model import SMOKE, load_tokenizer
from tests.conftest import make_pairs
from tests.training.test_stages import SMOKE as PROFILE, Session

tokenizer = load_tokenizer(SMOKE)
run = Run(Path({{runs!r}}) / "run", replace(PROFILE, steps={STEPS}))
run.write_results(machine={{{{"gflops": 1.0, "bf16_gflops": 1.0}}}})
pairs = tokenize_preferences(make_pairs(), tokenizer, max_length=128)
session = Session(run, pairs, tokenizer, run.profile)
"""


def click(notebook: Cells, button: str) -> None:
    """A click on a widget, in a subshell of the kernel: the main thread is busy with the cell."""
    client = notebook.client
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    subshell = client.get_control_msg(timeout=WAIT)["content"]["subshell_id"]
    data = {"method": "custom", "content": {"event": "click"}, "buffer_paths": []}
    message = client.session.msg("comm_msg", {"comm_id": button, "data": data})
    message["header"]["subshell_id"] = subshell
    client.shell_channel.send(message)


def opened(notebook: Cells) -> str:
    """The id of the next button that the running cell makes."""
    while True:
        message = notebook.client.get_iopub_msg(timeout=WAIT)
        state = message["content"].get("data", {}).get("state", {}) if message["msg_type"] == "comm_open" else {}
        if state.get("_model_name") == "ButtonModel":
            return message["content"]["comm_id"]


@pytest.mark.slow
def test_a_click_while_the_cell_runs_keeps_that_step_and_the_cell_goes_on_from_it(tmp_path):
    log = tmp_path / "run" / "orpo" / "log.jsonl"
    with Cells("04", tmp_path) as notebook:
        notebook.execute(CELL.format(runs=str(tmp_path)))
        notebook.begin("session.train()")
        button, deadline = opened(notebook), time.monotonic() + WAIT
        while len(read_lines(log)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        click(notebook, button)
        (error,) = notebook.finish()[1]
        stopped = len(read_lines(log))
        assert 3 <= stopped < STEPS
        assert error == f"orpo: stopped at step {stopped} of {STEPS}. Run this cell again: it goes on from there. " + (
            "The next cell reads the model."
        )
        assert (log.parent / "checkpoints" / f"checkpoint-{stopped}").is_dir() and (log.parent / "model").is_dir()
        assert f"resuming from step {stopped}" in notebook.execute("session.train()")[0]
    assert [record["step"] for record in read_lines(log)] == list(range(1, STEPS + 1))


def test_the_button_says_that_it_was_heard_and_is_gone_afterwards(monkeypatch):
    shown, presses = [], []
    handle = type("Handle", (), {"update": lambda self, bundle, raw: shown.append(bundle)})()
    monkeypatch.setattr("helpers.show.stop_button.display", lambda bundle, **how: shown.append(bundle) or handle)
    with stop_button(lambda: presses.append(1)) as button:
        button.click()
        assert presses == [1] and button.disabled and "Stopping" in button.description
    assert "application/vnd.jupyter.widget-view+json" in shown[0] and shown[1] == {"text/plain": ""}
