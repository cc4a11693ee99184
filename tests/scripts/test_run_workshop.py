"""`make run`'s runner, as real processes on small notebooks: exit codes, stopping, continuing, and what is kept."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from helpers.files import REPOSITORY
from scripts import run_workshop
from scripts.run_workshop import Execution, choose, last_line, tidied
from tests.planted import PLANTED

WAIT = 120  # seconds that a loaded machine may take to start a kernel


def write_notebook(folder, name: str, *cells: str, needs=(), **notes):
    folder.mkdir(exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["workshop"] = {"needs": list(needs)} | notes
    nbformat.write(notebook, folder / f"{name}.ipynb")


class Runner:
    """scripts/run_workshop.py on the notebooks of one folder, with a runs folder of its own."""

    def __init__(self, path):
        self.folder, self.runs = path / "notebooks", path / "runs"

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "scripts/run_workshop.py", "--folder", str(self.folder), "--runs-dir"]
        environment = {name: value for name, value in os.environ.items() if name not in ("PROFILE", "WORKSHOP_RUN")}
        return subprocess.Popen(
            [*command, str(self.runs), *(arguments or ("--profile", "smoke"))],
            cwd=REPOSITORY,
            env=environment | {"HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What was started in the background of a script ignores Ctrl-C, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def wait_for(self, path: str, process) -> None:
        """Until runs/latest/<path> exists."""
        deadline = time.monotonic() + WAIT
        while not list((self.runs / "latest").glob(path)):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, f"{path} never came"
            time.sleep(0.05)

    def state(self) -> dict:
        return json.loads((self.runs / "latest" / "state.json").read_text())

    def executed(self, name: str):
        return nbformat.read(self.runs / "latest" / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


TOUCH = "import os, pathlib\npathlib.Path(os.environ['WORKSHOP_RUN'], '{}').touch()"


def test_all_pass(runner):
    write_notebook(runner.folder, "00_first", "import os; print('profile', os.environ['PROFILE'])")
    hold = "import time; kept = b'x' * 2**26; time.sleep(2.5)  # memory is sampled once a second"
    write_notebook(runner.folder, "01_second", f"import helpers; print('helpers found'); {hold}")
    code, said = runner.run()
    assert code == 0, said
    assert re.search(r"00_first +done in 0:\d\d", said) and re.search(r"01_second +done in", said)
    assert "finished in" in said and "peak memory" in said
    assert runner.executed("00_first").cells[0].outputs[0].text == "profile smoke\n"
    assert (runner.runs / "latest" / "report.html").is_file()
    results = json.loads((runner.runs / "latest" / "results.json").read_text())
    assert results["profile"] == "smoke" and results["run"]["peak_memory_bytes"] > 2**26
    assert runner.state()["status"] == "finished" and results["run"]["seconds_left"] == 0
    (second,) = runner.state()["done"]["01_second"]["cells"]
    whole = runner.state()["done"]["01_second"]["seconds"]
    assert 2.5 <= second <= whole + 0.01, "for the time left of the next run, in hundredths of a second"
    assert not [name for name in os.listdir(runner.runs / "latest" / "notebooks") if name.startswith(".")]


def test_the_progress_line_shows_what_is_printed_and_how_far_a_bar_is(tmp_path):
    """The messages are a real kernel's: tqdm draws a widget in a notebook."""
    code = (
        "from tqdm.auto import tqdm\nprint('a line\\n')\nfor i in tqdm(range(4), desc='answers', mininterval=0): pass"
    )
    heard = []

    class Listener(NotebookClient):
        def process_message(self, msg, cell, cell_index):
            heard.append(last_line(msg))
            return super().process_message(msg, cell, cell_index)

    Listener(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), kernel_name="python3").execute()
    said = [line for line in heard if line]
    assert said[0] == "a line" and "answers: 25%" in said and said[-1] == "answers: 100%"


def test_what_cells_printed_is_made_fit_to_be_shared():
    said = "\rstep 1/3\rstep 2/3\rstep 3/3\ndone\n\rloading 50%\rloading 100%\r"
    said += f"\n{REPOSITORY}/.venv/lib/peft.py:1: UserWarning\n{os.path.expanduser('~')}/x.py"
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", name="stdout", text=said)])
    kept = tidied(nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("text")]))
    warned = ".venv/lib/peft.py:1: UserWarning\n~/x.py"
    assert kept.cells[0].outputs[0].text == f"step 3/3\ndone\nloading 100%\n{warned}"


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_credential_that_a_cell_shows_is_in_no_executed_notebook(planted):
    v4 = nbformat.v4
    shown = {"text/plain": f"'{planted}'", "text/html": f"<b>{planted}</b>", "image/png": "AKIA"}
    outputs = [v4.new_output("stream", text=f"login with {planted}\n"), v4.new_output("display_data", shown)]
    kept = tidied(v4.new_notebook(cells=[v4.new_code_cell(outputs=outputs)]))
    assert planted not in nbformat.writes(kept) and "login with [" in kept.cells[0].outputs[0].text
    assert kept.cells[0].outputs[1].data["image/png"] == "AKIA"


def test_pieces_of_a_stream_are_one_and_bars_are_left_out():
    v4 = nbformat.v4
    bar = {"text/plain": "answers:   0%|          | 0/4", "application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    slider = {"text/plain": "p(chosen) 0.30", "application/vnd.jupyter.widget-view+json": {"model_id": "2"}}
    pieces = [v4.new_output("stream", name="stdout", text=f"\rstep {step}/3") for step in (1, 2, 3)]
    shown = [v4.new_output("display_data", data) for data in (bar, slider)]
    cell = v4.new_code_cell(
        outputs=[pieces[0], shown[0], *pieces[1:], shown[1], v4.new_output("stream", text="\ndone")]
    )
    streams_and_slider = tidied(v4.new_notebook(cells=[cell])).cells[0].outputs
    assert [output.get("text") for output in streams_and_slider] == ["step 3/3", None, "\ndone"]
    assert streams_and_slider[1].data["text/plain"] == "p(chosen) 0.30"


def test_a_failure_is_named_kept_and_continued_from(runner):
    write_notebook(runner.folder, "00_good", TOUCH.format("once"))
    write_notebook(runner.folder, "01_bad", "print('before')", "assert 1 > 2, 'the lesson did not come true'")
    write_notebook(runner.folder, "02_never", "print('never')")
    code, said = runner.run()
    assert code == 1
    assert "FAILED: 01_bad.ipynb, cell 2: AssertionError: the lesson did not come true" in said
    assert "\x1b" not in said, "codes of a terminal, which a kernel's traceback is full of"
    assert runner.executed("01_bad").cells[1].outputs[0].output_type == "error"
    assert "the lesson did not come true" in (runner.runs / "latest" / "report.html").read_text()
    assert not (runner.runs / "latest" / "notebooks" / "02_never.ipynb").exists()

    write_notebook(runner.folder, "01_bad", "print('fixed')")
    code, said = runner.run()
    assert code == 0, said
    assert "Continuing" in said and "done 00_good" in said and not re.search(r"00_good +done in", said)


NOWHERE = ("nowhere.jsonl", "./mine", "/no/such/folder", "a/b/c", "mine")


def test_bad_arguments_are_one_line_and_make_nothing(runner):
    write_notebook(runner.folder, "00_a", "1")
    for arguments, message in (
        (["--profile", "huge"], "make run: unknown profile 'huge': choose one of smoke, laptop"),
        (["--profile", "smoke", "--notebooks", "00 17"], "make run: no notebook 17: choose from 00"),
        *((["--source", source], f"make run: SOURCE={source} is no file or folder here") for source in NOWHERE),
    ):
        code, said = runner.run(*arguments)
        assert code == 2 and said.strip().startswith(message) and len(said.splitlines()) == 1
    assert not runner.runs.exists()


def test_what_takes_long_runs_only_when_it_is_named(tmp_path):
    folder = tmp_path / "notebooks"
    write_notebook(folder, "00_a", "1")
    write_notebook(folder, "07_b", "1", needs=["00"], only_when_named=["laptop"])

    def chosen(numbers: str, profile: str) -> list[str]:
        return [path.stem for path in choose(numbers.split(), folder, profile)]

    assert chosen("", "laptop") == ["00_a"]
    assert chosen("", "smoke") == chosen("07", "laptop") == ["00_a", "07_b"]


def test_a_notebook_for_an_account_needs_packages_or_is_named(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "notebooks"
    account = {"variables": ["WORKSHOP_JOBS_URL"], "requirements": "requirements-sagemaker.txt"}
    monkeypatch.delenv("WORKSHOP_JOBS_URL", raising=False)
    write_notebook(folder, "00_a", "1")
    write_notebook(folder, "08_b", "1", account=account)
    assert len(choose([], folder, "smoke")) == 2 and not capsys.readouterr().out, "the packages are here"
    monkeypatch.setattr(run_workshop, "installed", lambda name: "missing" if name == "moto" else "1")
    assert [path.stem for path in choose([], folder, "smoke")] == ["00_a"]
    assert "notebook 08 is left out: it needs moto, which is not installed: run `.venv/bin" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"notebook 08 needs moto, which is not installed: run .*sagemaker.txt`$"):
        choose(["08"], folder, "smoke")
    monkeypatch.setenv("WORKSHOP_JOBS_URL", "s3://class/jobs")
    assert [path.stem for path in choose([], folder, "smoke")] == ["00_a"]
    assert "it may cost money, since WORKSHOP_JOBS_URL is set: it runs only when it is named" in capsys.readouterr().out
    assert len(choose(["08"], folder, "smoke")) == 1


def test_a_notebook_that_takes_more_packages_says_how_to_install_them(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "notebooks"
    write_notebook(folder, "00_a", "1")
    write_notebook(folder, "09_b", "1", requirements="requirements-serving.txt")
    assert len(choose([], folder, "smoke")) == 2 and not capsys.readouterr().out, "the packages are here"
    monkeypatch.setattr(run_workshop, "installed", lambda name: "missing" if name == "openai" else "1")
    assert [path.stem for path in choose([], folder, "smoke")] == ["00_a"]
    assert "notebook 09 is left out: it needs openai, which is not installed: run `.venv/bin" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"notebook 09 needs openai, which is not installed: run .*serving.txt`$"):
        choose(["09"], folder, "smoke")


def test_what_a_notebook_needs_is_added(runner):
    write_notebook(runner.folder, "00_a", "1")
    write_notebook(runner.folder, "01_b", "1")
    write_notebook(runner.folder, "02_c", "1", needs=["01"])
    code, said = runner.run("--profile", "smoke", "--notebooks", "02")
    assert code == 0 and "notebook 02 needs 01: added" in said
    assert set(runner.state()["done"]) == {"01_b", "02_c"}


def test_an_edited_notebook_and_what_follows_are_done_again(runner):
    for name in ("00_a", "01_b", "02_c"):
        write_notebook(runner.folder, name, "1")
    write_notebook(runner.folder, "03_d", "raise SystemError('stop')")
    assert runner.run()[0] == 1
    write_notebook(runner.folder, "01_b", "2")
    write_notebook(runner.folder, "03_d", "1")
    code, said = runner.run()
    assert code == 0 and "done 00_a\n" in said
    assert [name for name in ("00_a", "01_b", "02_c", "03_d") if re.search(f"{name} +done in", said)] == [
        "01_b",
        "02_c",
        "03_d",
    ]


def test_a_notebook_that_was_only_run_and_saved_is_not_edited(runner):
    write_notebook(runner.folder, "00_a", "1")
    write_notebook(runner.folder, "01_b", "raise SystemError('stop')")
    assert runner.run()[0] == 1
    notebook = nbformat.read(runner.folder / "00_a.ipynb", as_version=4)
    notebook.cells[0] |= {"outputs": [nbformat.v4.new_output("stream", text="1")], "execution_count": 5}
    nbformat.write(notebook, runner.folder / "00_a.ipynb")
    assert "done 00_a\n" in runner.run()[1]


def test_what_an_earlier_run_printed_does_not_stand_in_cells_that_this_one_never_ran(runner):
    write_notebook(runner.folder, "00_a", "raise SystemError('stop')", "print(1)")
    notebook = nbformat.read(runner.folder / "00_a.ipynb", as_version=4)
    notebook.cells[1] |= {"outputs": [nbformat.v4.new_output("stream", text="1")]}
    nbformat.write(notebook, runner.folder / "00_a.ipynb")
    assert runner.run()[0] == 1
    assert [len(cell.outputs) for cell in runner.executed("00_a").cells] == [1, 0]


STAGE = """from helpers.runs.folder import open_run
from helpers.training.profiles import get_profile
stage = open_run(get_profile()).stage("sft")
print("there" if stage.finished else "forgotten", flush=True)
stage.finish({"n": 1})"""


def test_what_an_edited_notebook_trained_is_forgotten_and_what_another_trained_is_kept(runner):
    write_notebook(runner.folder, "02_sft", STAGE, "raise SystemError('stop')")
    for expected, code in (("forgotten", 1), ("there", 1), ("forgotten", 0)):
        if code == 0:
            write_notebook(runner.folder, "02_sft", STAGE, "stage.forget()  # a made-up result is nothing to draw")
        returned, said = runner.run()
        assert returned == code, said
        assert runner.executed("02_sft").cells[0].outputs[0].text.strip() == expected


def test_source_stands_in_for_the_line_of_the_notebook(runner, tmp_path):
    mine = tmp_path / "my pairs.jsonl"
    mine.write_text("{}")
    write_notebook(runner.folder, "00_first", 'SOURCE = "house-style"\nprint("pairs of", SOURCE)')
    before = (runner.folder / "00_first.ipynb").read_bytes()
    code, said = runner.run("--profile", "smoke", "--source", str(mine))
    assert code == 0, said
    assert runner.executed("00_first").cells[0].outputs[0].text == f"pairs of {mine}\n"
    assert (runner.folder / "00_first.ipynb").read_bytes() == before


def test_fresh_or_other_settings_leave_a_stopped_run_behind(runner, monkeypatch):
    write_notebook(runner.folder, "00_a", "1")
    write_notebook(runner.folder, "01_b", "raise SystemError('stop')")
    assert runner.run()[0] == 1
    stopped = (runner.runs / "latest").resolve()
    monkeypatch.setenv("WORKSHOP_SEED", "1")  # another profile, seed or model is another run
    assert "Starting" in runner.run()[1] and (runner.runs / "latest").resolve() != stopped
    monkeypatch.delenv("WORKSHOP_SEED")
    stopped = (runner.runs / "latest").resolve()
    code, said = runner.run("--profile", "smoke", "--fresh")
    assert code == 1 and "Starting" in said and (runner.runs / "latest").resolve() != stopped


def stop(process, how: int) -> str:
    """Send the signal and return what was said until the end."""
    process.send_signal(how)
    return process.communicate(timeout=WAIT)[0]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_while_a_notebook_runs_it_continues(runner, how):
    slow = TOUCH.format("started") + "\nimport time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.05)"
    runner.folder.mkdir()
    go = runner.folder.parent / "go"
    write_notebook(runner.folder, "00_a", "1")
    write_notebook(runner.folder, "01_slow", slow.format(str(go)))
    process = runner.start()
    runner.wait_for("started", process)
    said = stop(process, how)
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 130, said
        assert "Stopped. `make run PROFILE=smoke` continues from here" in said
        assert runner.state()["status"] == "stopped"
    go.touch()
    code, said = runner.run()
    assert code == 0, said
    assert "Continuing" in said and "done 00_a" in said
    done = runner.state()["done"]
    assert done["01_slow"]["resumed"] and "resumed" not in done["00_a"], "its time is not that of the whole notebook"


def test_two_runs_do_not_work_in_one_folder(runner):
    go = runner.folder.parent / "go"
    wait = TOUCH.format("started") + f"\nimport time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)"
    write_notebook(runner.folder, "00_slow", wait)
    first = runner.start()
    runner.wait_for("started", first)
    code, said = runner.run()
    assert code == 1 and f"make run: process {first.pid} on " in said and "is still running" in said
    go.touch()
    assert "finished in" in first.communicate(timeout=WAIT)[0] and first.returncode == 0


def real_notebook_with_more_steps(runner) -> None:
    """Notebook 02 with its parameters overridden as a reader would: more steps, a checkpoint every second one."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "02_sft_baseline.ipynb", as_version=4)
    at = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    override = "from dataclasses import replace\nprofile = replace(profile, steps=60, save_every=2)"
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(override))
    runner.folder.mkdir(exist_ok=True)
    write_notebook(runner.folder, "01_base", BASE)
    nbformat.write(notebook, runner.folder / "02_sft_baseline.ipynb")


BASE = """from helpers.training.profiles import get_profile
from helpers.runs.folder import open_run
from helpers.training.base_model import load_base
from helpers.data.load import load_preferences
from helpers.evaluation.heldout import evaluate
profile = get_profile()
model, tokenizer = load_base(profile)
heldout = load_preferences(split="heldout", limit=profile.heldout_pairs)
evaluate(open_run(profile), "base", model, tokenizer, heldout, profile)"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_training_it_resumes_from_a_checkpoint_and_says_so(runner, how):
    real_notebook_with_more_steps(runner)
    process = runner.start()
    runner.wait_for("sft/checkpoints/checkpoint-4/trainer_state.json", process)
    stop(process, how)
    code, said = runner.run()
    assert code == 0, said
    printed = "".join(
        output.get("text", "")
        for cell in runner.executed("02_sft_baseline").cells
        for output in cell.get("outputs", [])
    )
    assert (resumed := re.search(r"sft: resuming from step (\d+) of a stopped run", printed)), printed
    log = [json.loads(line) for line in (runner.runs / "latest" / "sft" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == list(range(1, 61)), "no step is missing and none is there twice"
    result = json.loads((runner.runs / "latest" / "results.json").read_text())["methods"]["sft"]
    assert result["resumed_from_step"] == int(resumed[1]) >= 4 and result["steps"] == 60
    assert not (runner.runs / "latest" / "sft" / "checkpoints").exists()


def test_a_kernel_that_dies_is_one_line_and_the_next_run_goes_on(runner):
    write_notebook(runner.folder, "00_good", "1")
    write_notebook(
        runner.folder, "01_dies", "print('before')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    code, said = runner.run()
    assert code == 1 and "FAILED: 01_dies.ipynb, cell 2: the kernel died" in said and "Traceback" not in said
    write_notebook(runner.folder, "01_dies", "1")
    code, said = runner.run()
    assert code == 0 and "done 00_good" in said


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\n{}\n", "[]"], ids=["empty", "merge", "list"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    folder = tmp_path / "notebooks"
    write_notebook(folder, "00_a", "1")
    (folder / "01_b.ipynb").write_text(content)
    with pytest.raises(ValueError, match=r"01_b.ipynb is no notebook \(.*\): restore it, for example with git"):
        choose([], folder, "smoke")


def test_a_folder_without_notebooks_and_a_notebook_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no notebook such as 00_preflight.ipynb"):
        choose([], tmp_path, "smoke")
    (tmp_path / "01_b.ipynb").mkdir()
    with pytest.raises(ValueError, match=r"01_b.ipynb is no notebook \(.*Is a directory"):
        choose([], tmp_path, "smoke")


def test_a_check_fails_where_python_would_leave_it_out_and_a_bare_one_is_told_by_its_line(runner, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    write_notebook(runner.folder, "00_a", "x = 1\nassert x == 2")
    code, said = runner.run()
    assert code == 1 and "FAILED: 00_a.ipynb, cell 1: AssertionError: assert x == 2" in said


def test_results_that_a_notebook_damaged_are_named(runner):
    spoil = "import os, pathlib\npathlib.Path(os.environ['WORKSHOP_RUN'], 'results.json').write_text('cut')"
    write_notebook(runner.folder, "00_a", spoil)
    code, said = runner.run()
    assert code == 1 and "Traceback" not in said
    assert re.search(r"^make run: \S+-smoke/results.json is no JSON .*: restore or delete the file", said, re.MULTILINE)


OLDER = '{"status": "stopped", "key": [], "done": {"00_a": {}}}'


@pytest.mark.parametrize("content", ["", '{"status": "finished"}', '{"done": {}}', '{"done": []}', "[]", OLDER])
def test_a_damaged_state_of_an_earlier_run_does_not_stop_the_next(runner, content):
    write_notebook(runner.folder, "00_a", "1")
    assert runner.run()[0] == 0
    (runner.runs / "latest" / "state.json").write_text(content)
    code, said = runner.run()
    assert code == 0 and "Starting" in said and "Traceback" not in said


def test_notebooks_run_in_this_python_whatever_kernels_the_user_has(tmp_path, monkeypatch):
    """A kernel python3 of another environment lies where Jupyter looks first."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    runner = Runner(tmp_path)
    write_notebook(runner.folder, "00_a", f"import sys\nassert sys.prefix == {sys.prefix!r}, sys.prefix")
    code, said = runner.run()
    assert code == 0, said


def test_a_kernel_that_cannot_start_says_why(tmp_path, monkeypatch):
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.matplotlib = 'nonsense'\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    runner = Runner(tmp_path)
    write_notebook(runner.folder, "00_a", "1")
    code, said = runner.run()
    (failed,) = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert code == 1 and "the kernel can't be started" in failed and "nonsense" in failed and "TMPDIR" not in failed


def test_a_very_long_line_is_whole_and_stops_nothing(runner):
    overwritten = "import sys\nfor i in range(50_000): sys.stdout.write(f'\\r{i}/50000')"
    write_notebook(runner.folder, "00_a", "print('y' * 5_000_000)", overwritten)
    code, said = runner.run()
    assert code == 0 and max(map(len, said.splitlines())) < 300, said[-300:]
    whole, last = (cell.outputs[0].text for cell in runner.executed("00_a").cells)
    assert len(whole) == 5_000_001 and last == "49999/50000"


def test_a_cell_that_finds_the_disk_full_says_what_to_do(runner):
    write_notebook(runner.folder, "00_a", "raise RuntimeError('I/O error: No space left on device (os error 28)')")
    code, said = runner.run()
    assert code == 1 and "00_a.ipynb, cell 1: RuntimeError: I/O error: No space left on device" in said
    assert "free some, or set WORKSHOP_RUNS to a folder elsewhere" in said


def test_too_few_open_files_are_refused_with_the_fix(runner):
    write_notebook(runner.folder, "00_a", "1")
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "sys.argv = ['run', *sys.argv[1:]]; runpy.run_path('scripts/run_workshop.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "--profile", "smoke", "--folder", str(runner.folder)]
    done = subprocess.run([*command, "--runs-dir", str(runner.runs)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and not runner.runs.exists()
    assert done.stderr == "make run: 64 files may be open at once: raise the limit with `ulimit -n 1024`\n"


def test_a_low_limit_of_open_files_is_raised():
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (200, r.getrlimit(r.RLIMIT_NOFILE)[1]));"
        "from scripts.run_workshop import allow_files; print(allow_files(), r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert said == "1024 1024\n"


def test_output_that_was_lost_is_named_in_its_cell(capsys):
    run = Execution.__new__(Execution)
    run.path, run.heard, run.missing = Path("00_a.ipynb"), 0, {}
    run.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1"), nbformat.v4.new_code_cell("2")])
    for number, kind, cell in [
        (5, "status", 0),
        (6, "stream", 0),
        (10, "stream", 0),
        (12, "status", 0),
        (13, "stream", 1),
    ]:
        run.count_lost({"header": {"msg_id": f"ab_12_{number}"}, "msg_type": kind}, cell)
    run.name_what_was_lost()
    assert [len(cell.outputs) for cell in run.nb.cells] == [1, 0]
    assert "3 pieces of this cell's output came faster than could be kept" in run.nb.cells[0].outputs[0].text
    assert "00_a.ipynb, cell 1: 3 pieces" in capsys.readouterr().out


def test_a_message_that_comes_after_a_later_one_is_not_lost(runner):
    """The value of the last line is numbered first, then what was printed is sent."""
    write_notebook(runner.folder, "00_a", "print('said')\n'the value'", "print('more')\n'another'")
    assert runner.run()[0] == 0
    for cell in runner.executed("00_a").cells:
        assert [output.output_type for output in cell.outputs] == ["stream", "execute_result"]


@pytest.mark.slow
def test_the_notebooks_of_the_hour_run_on_a_file_of_one_s_own(tmp_path):
    """First with a bad row, which stops notebook 01 in one line; then 01, 02, 04 and the report on the mended file.

    It took three and a half minutes on two cores with much other work beside it.
    """
    mine, runner = tmp_path / "mine.jsonl", Runner(tmp_path)
    runner.folder = REPOSITORY / "notebooks"
    arguments = ("--profile", "smoke", "--notebooks", "01 02 04", "--source", str(mine))
    rows = [
        {"prompt": f"How do I return order {i}?", "chosen": f"Open order {i} and press Return.", "rejected": "Call us."}
        for i in range(120)
    ]
    mine.write_text("\n".join(map(json.dumps, [*rows, rows[0] | {"chosen": " "}])))
    code, said = runner.run(*arguments)
    (failed,) = [line for line in said.splitlines() if line.startswith("FAILED")]
    bad = "ValueError: mine.jsonl: row 120, chosen: the response is empty; write an answer or drop the row"
    assert code == 1 and re.match(rf"FAILED: 01_domain_data\.ipynb, cell \d+: {re.escape(bad)}", failed), said
    mine.write_text("\n".join(map(json.dumps, rows)))
    code, said = runner.run(*arguments)
    assert code == 0, said
    results = json.loads((runner.runs / "latest" / "results.json").read_text())
    data = results["data"]
    assert data["source"] == "mine.jsonl" and 0 < data["heldout_pairs"] < data["train_pairs"] < len(rows)
    assert {results["methods"][method]["n"] for method in ("base", "sft", "orpo")} == {data["heldout_pairs"]}
    assert "mine.jsonl" in (runner.runs / "latest" / "report.html").read_text()
