"""The attendee: a JupyterLab of its own, of SageMaker Studio's versions, in a home of 5 GB; clone, set up, Run All.

Nothing of this checkout's environment is used there, but uv, which makes the foreign environment faster. The browser is
the system's Chromium. One set-up and one visit of the browser serve all tests of this file.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from helpers.files import REPOSITORY
from tests.studio.attendee import GB, Attendee, chromium, jupyterlab, make_home, studio_environment, used

pytestmark = pytest.mark.slow

CORE = ["00_preflight", "01_domain_data", "02_sft_baseline", "03_odds_ratio", "04_orpo"]


@pytest.fixture(scope="module")
def attendee(tmp_path_factory):
    """The environment of Studio, a clone in a home of 5 GB, and `make setup` run there: what it said is in `.said`."""
    place = tmp_path_factory.mktemp("studio")
    chromium()
    studio, home = studio_environment(place / "conda"), place / "home"
    with make_home(place / "disk.img", home) as obstacle:
        attendee = Attendee(home, studio)
        attendee.obstacle = obstacle
        attendee.clone_from(REPOSITORY)
        started = time.monotonic()
        attendee.said = attendee.run("make", "setup")
        attendee.seconds = time.monotonic() - started
        yield attendee


def test_set_up_says_what_it_takes_and_takes_no_more(attendee):
    """Said first; the environment at most 2.0 GB."""
    said = re.search(r"downloads up to ([\d.]+) GB .*installs ([\d.]+) GB", attendee.said)
    assert said and "ORPO workshop" in attendee.said
    print(f"make setup took {attendee.seconds:.0f} s; .venv {used(attendee.clone / '.venv') / GB:.2f} GB")
    assert used(attendee.clone / ".venv") <= min(2.0, float(said[2])) * GB


def test_on_a_home_of_5_gb_no_copy_of_the_downloads_is_left(attendee):
    if attendee.obstacle:
        pytest.skip(f"no home of 5 GB here: {attendee.obstacle}; all else in this file ran in a larger one")
    assert "deleted at the end" in attendee.said and not (attendee.clone / ".venv" / ".downloads").exists()
    assert used(attendee.home) - used(attendee.clone) < 0.1 * GB, "caches in the home"


def test_set_up_again_is_done_at_once_and_a_moved_clone_is_repaired(attendee):
    assert "Setting up" not in attendee.run("make", "setup")
    moved = attendee.clone.with_name("moved")
    attendee.clone.rename(moved)
    try:
        plan = subprocess.run(
            ["make", "-n", "setup"], cwd=moved, env=attendee.environment, capture_output=True, text=True
        )
        assert "setup.sh" in plan.stdout
    finally:
        moved.rename(attendee.clone)


@pytest.fixture(scope="module")
def browsed(attendee):
    """What the browser saw: every core notebook and the demo run from top to bottom, and their live views used."""
    pictures = Path(os.environ.get("WORKSHOP_SCREENSHOTS") or attendee.home.parent / "screenshots").absolute()
    pictures.mkdir(parents=True, exist_ok=True)
    script = str(REPOSITORY / "tests" / "studio" / "browse.py")
    with jupyterlab(attendee) as url:
        command = [str(attendee.python), script, url, chromium(), str(pictures)]
        command += [f"{name}.ipynb" for name in [*CORE, "demo"]]
        done = subprocess.run(command, env=attendee.environment, capture_output=True, text=True, timeout=2400)
    print(f"screenshots: {pictures}")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_core_notebooks_run_top_to_bottom_in_that_jupyterlab(browsed):
    """The kernel is chosen by itself, no cell fails but the one that is stopped, the console stays clean."""
    assert list(browsed["notebooks"]) == [f"{name}.ipynb" for name in [*CORE, "demo"]]
    for name, notebook in browsed["notebooks"].items():
        print(f"{name}: {notebook['seconds']} s, and {notebook['seconds_of_views']} s for its views")
        assert notebook["kernel"] == "ORPO workshop" and not notebook["errors"], (name, notebook)
        assert all("stopped at step" in error for error in notebook["errors_of_views"]), (name, notebook)
        assert notebook["counts"] == list(range(1, len(notebook["counts"]) + 1)), name
    assert not browsed["console"]


def views(browsed: dict, name: str) -> dict:
    return browsed["notebooks"][f"{name}.ipynb"]["views"]


def test_pairs_are_paged_by_buttons_and_the_limit_moves_by_keyboard(browsed):
    seen = views(browsed, "01_domain_data")
    first, second, third, again = seen["pages"]
    assert len({first, second, third}) == 3 and again == second and "chosen" in first
    before, after = (int(re.search(r"At (\d+) tokens", text)[1]) for text in seen["limits"])
    assert before - after == 40


def test_sliders_follow_mouse_and_keyboard_and_the_picture_with_them(browsed):
    seen = views(browsed, "03_odds_ratio")
    assert len(set(seen["pictures"])) == len(set(seen["tables"])) == 4
    assert all(re.search(r"odds ratio +[\d.]+", table) for table in seen["tables"])
    assert min(int(picture.split()[0]) for picture in seen["pictures"]) > 20_000  # an empty one has 2,000 bytes


def test_a_training_that_was_stopped_says_how_to_go_on_and_goes_on_from_there(attendee, browsed):
    """By its own button, by the interrupt of JupyterLab's toolbar, and by its button again."""
    said = views(browsed, "02_sft_baseline")["said"]
    steps = [
        int(re.search(r"stopped at step (\d+) of 5000\. Run this cell again: it goes on", text)[1]) for text in said
    ]
    assert 0 < steps[0] < steps[1] < steps[2] < 5000
    assert all(f"resuming from step {step}" in text for step, text in zip(steps, said[1:], strict=False))
    (log,) = (attendee.clone / "runs").glob("*-smoke/variants/sft-steps-5000/log.jsonl")
    logged = [json.loads(line)["step"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert logged == list(range(1, steps[2] + 1))


def test_a_draft_of_ones_own_is_answered_and_judged(browsed):
    seen = views(browsed, "04_orpo")
    assert len(set(seen["pages"])) == 3 and "answer of ORPO" in seen["pages"][-1]
    assert seen["asked"] == "This operation lists the topics that you own."
    assert re.search(r"base\s+SFT\s+ORPO", seen["answers"]) and "no answer" not in seen["answers"]


def test_the_recorded_trainings_are_drawn_measurement_by_measurement(browsed):
    seen = views(browsed, "demo")
    assert min(seen["frames"].values()) >= 5 and seen["shown"] > 300


def test_nothing_in_a_view_is_cut_or_scrolled_sideways(browsed):
    """On a laptop's screen in both themes, and on a projector's: at 150% of zoom, and with text of 18 points."""
    assert len(browsed["looks"]) >= 26
    tables = {"04-a7396576-zoomed", "04-f5d1bd61-zoomed", "demo-demo-table-zoomed", "demo-show_answers-zoomed"}
    assert tables | {"02-659fa26b-zoomed"} <= set(browsed["looks"])
    assert not {name: look["wide"] for name, look in browsed["looks"].items() if look["wide"]}
    big = {name: look["smallest"] for name, look in browsed["looks"].items() if look["smallest"]}
    assert len(big) >= 5 and not {name: size for name, size in big.items() if size[0] < 23.9}


def test_everything_together_fits_a_home_of_5_gb(attendee):
    """After the notebooks: environment, model and caches. A laptop run adds two models of 0.54 GB and little else."""
    here, models = used(attendee.home), 2 * 135e6 * 4
    print(f"home: {here / GB:.2f} GB, with a laptop run's two models {(here + models) / GB:.2f}")
    assert here + models <= 4.5 * GB


def test_with_the_images_own_kernel_the_first_cell_says_which_to_choose(attendee):
    cells = json.loads((attendee.clone / "notebooks" / "00_preflight.ipynb").read_text(encoding="utf-8"))["cells"]
    source = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([attendee.python, "-c", source], env=attendee.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "ORPO workshop" in done.stderr and len(done.stderr.splitlines()) == 1


def test_make_clean_takes_the_kernel_and_the_environment_and_leaves_the_runs(attendee):
    kernel = attendee.home / ".local" / "share" / "jupyter" / "kernels" / "orpo-workshop"
    runs = list((attendee.clone / "runs").iterdir())
    assert kernel.exists() and runs
    said = attendee.run("make", "clean")
    assert "runs/ is kept" in said and not kernel.exists() and not (attendee.clone / ".venv").exists()
    assert list((attendee.clone / "runs").iterdir()) == runs
