"""Is the base model here, or can it be fetched? Whoever would fetch it is asked, and has seconds to answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

from helpers.files import cache_folder
from helpers.preflight.check import Check
from helpers.preflight.packages import installed

INDEX_SECONDS = 15
ELSE = "set WORKSHOP_MODEL to a local model folder"


def model_check(source: str) -> Check:
    """The model `source`, as a profile names it, is here, or the hub or pip's index has it."""
    from helpers.training.base_model import HUB_TWIN, MADE, PACKAGED

    if cut := cut_off(source):
        return cut
    if source == PACKAGED or source in MADE:  # those take the packaged model's tokenizer
        return packaged_check()
    if source != HUB_TWIN:
        return given_check(source)
    if (here := packaged_check(ask=False)).ok or (here := given_check(source)).ok:
        return here
    return packaged_check()


def cut_off(source: str) -> Check | None:
    """FAIL for a model folder of which a file is missing, cut off or damaged."""
    from helpers.runs.stage import cut_file

    for folder in (Path(source).expanduser(), packaged_folder()):
        if os.path.isfile(folder / "config.json") and (cut := cut_file(folder)):
            fix = f"copy the model again, or delete {folder}: what is ours is made again"
            return Check("base model", False, f"{folder / cut} is missing, cut off or damaged", fix)
    return None


def packaged_folder() -> Path:
    """Where the packaged model is kept once it was fetched."""
    from helpers.training.packaged_model import PACKAGED_FOLDER

    return cache_folder() / PACKAGED_FOLDER


def packaged_check(ask: bool = True) -> Check:
    """The packaged model is cached, or pip's index has it, if that is to be asked."""
    from helpers.training.packaged_model import WHEEL

    if os.path.isfile(packaged_folder() / "config.json"):
        return Check("base model", True, "SmolLM2-135M-Instruct is cached")
    if installed("pip") == "missing":
        return Check("base model", False, f"not cached yet, and no pip to fetch {WHEEL}", "install pip")
    if ask and index_has(WHEEL):
        return Check("base model", True, f"not cached yet: pip will fetch {WHEEL}")
    return Check("base model", False, f"not cached yet, and pip's index gives no {WHEEL}", f"go online once, or {ELSE}")


def index_has(pin: str) -> bool:
    """True if the index that pip is configured with answers in time and has name==version."""
    name, version = pin.split("==")
    command = [sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check"]
    command += ["--retries", "0", "--timeout", "5"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=INDEX_SECONDS).stdout
    except subprocess.TimeoutExpired:
        return False
    return version in re.findall(r"[^\s(),]+", said)


def given_check(source: str) -> Check:
    """A model that the user named: a folder, or a model of the hub."""
    from helpers.training.base_model import is_adapter, kept_from_hub, looks_like_a_path

    folder = Path(source).expanduser()
    if os.path.isfile(folder / "config.json") or is_adapter(str(folder)):
        return Check("base model", True, f"WORKSHOP_MODEL={source}")
    if folder.is_dir() or looks_like_a_path(source):
        found = f"WORKSHOP_MODEL={source} {'holds no config.json' if folder.is_dir() else 'does not exist'}"
        return Check("base model", False, found, "give a folder made by save_pretrained()")
    try:
        kept = kept_from_hub(source)
    except ValueError:
        found = f"WORKSHOP_MODEL={source} is no folder and no name that the hub could have"
        return Check("base model", False, found, "give a folder made by save_pretrained(), or owner/name")
    return Check("base model", True, f"{source} is kept from the hub") if kept else hub_check(source)


def hub_check(source: str) -> Check:
    """The hub answers, and has this model for this user."""
    from helpers.training.base_model import hub_answer

    answer = hub_answer(source)
    if answer is None:
        return Check("base model", False, f"the hub does not answer, and only it has {source}", f"go online, or {ELSE}")
    found = f"the hub has {source}" if answer == 200 else f"the hub gives no model {source} (HTTP {answer})"
    fix = f"correct WORKSHOP_MODEL, or log in with `hf auth login` where the model asks for it, or {ELSE}"
    return Check("base model", answer == 200, found, fix)
