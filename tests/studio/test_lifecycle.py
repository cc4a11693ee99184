"""The lifecycle configuration: clones, sets up, answers at once, and does nothing twice. `make` is a stand-in here."""

import os
import subprocess
import time

from helpers.files import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "studio_lifecycle.sh"


def test_it_answers_at_once_and_prepares_the_clone_in_the_background(tmp_path):
    origin, home, path = tmp_path / "origin", tmp_path / "home", tmp_path / "bin"
    for folder in (origin, home, path):
        folder.mkdir()
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "--quiet", str(origin)], check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=origin, check=True)
    (path / "make").write_text('#!/bin/sh\nsleep 1; echo "made $1 in $PWD"\n')
    (path / "make").chmod(0o755)
    environment = os.environ | {
        "HOME": str(home),
        "WORKSHOP_REPOSITORY": str(origin),
        "PATH": f"{path}:{os.environ['PATH']}",
    }
    log = home / "orpo-workshop-setup.log"
    for _ in range(2):  # the home persists: the second start finds the clone
        log.unlink(missing_ok=True)
        done = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and str(log) in done.stdout
        deadline = time.monotonic() + 60
        while not (log.exists() and "Ready" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert f"made setup in {home / 'orpo-workshop'}" in log.read_text(), log.read_text()


def test_what_the_page_for_studio_names_exists():
    text = (REPOSITORY / "docs" / "studio.md").read_text(encoding="utf-8")
    for name in ("scripts/studio_lifecycle.sh", "notebooks/00_preflight.ipynb"):
        assert name in text and (REPOSITORY / name).is_file()
    assert (
        "TORCH_CPU_INDEX" in text and "TORCH_CPU_INDEX" in (REPOSITORY / "scripts/install/torch_build.py").read_text()
    )
