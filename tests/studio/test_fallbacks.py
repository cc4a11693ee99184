"""What this machine lacks to be an attendee's is said, and not passed over."""

import os
import sys

import pytest

from tests.studio import attendee


def test_another_python_than_studios_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.warns(UserWarning, match=r"^no Python 3\.12 here: Studio's JupyterLab runs on Python 3\.\d+, not on"):
        assert attendee.studios_python() == sys.executable


def test_studios_python_is_taken_where_there_is_one(tmp_path, monkeypatch):
    python = tmp_path / "python3.12"
    python.write_text("#!/bin/sh\necho 12\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert attendee.studios_python() == "python3.12"


def test_why_there_is_no_small_home_is_said_and_the_folder_is_there(tmp_path, monkeypatch):
    """As a user who is not root, without mkfs.ext4, and where it fails."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with attendee.make_home(tmp_path / "a.img", tmp_path / "a") as obstacle:
        assert obstacle == "only root may mount one" and (tmp_path / "a").is_dir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tools / "mkfs.ext4").write_text("#!/bin/sh\necho no loop device >&2\nexit 1\n")
    (tools / "mkfs.ext4").chmod(0o755)
    with attendee.make_home(tmp_path / "b.img", tmp_path / "b") as obstacle:
        assert obstacle == "mkfs.ext4 failed (no loop device)" and (tmp_path / "b").is_dir()
    assert not list(tmp_path.glob("*.img"))
    monkeypatch.setattr(attendee.shutil, "which", lambda name: None)
    with attendee.make_home(tmp_path / "c.img", tmp_path / "c") as obstacle:
        assert obstacle.startswith("mkfs.ext4 is missing") and (tmp_path / "c").is_dir()
