"""One method's folder in a run, and how a stopped training resumes there. Its result is in results.json, once.

<run>/<method>/
  settings.json  log.jsonl  monitor.jsonl  heldout.json
  checkpoints/  model/  training.json (how far the model was trained, and what that took)
"""

import json
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from helpers.files import DamagedFile, append_line, read_json, read_lines, write_json, write_text
from helpers.runs.lock import Held, Lock
from helpers.runs.told import Refused


class Stage:
    """One method of a run. To make this object touches nothing; `start` or the first write makes the folder."""

    def __init__(self, run, name: str):
        self.run, self.name = run, name
        self.settings = {}  # what this stage is asked to be; `start` writes it down

    @property
    def path(self) -> Path:
        """The stage's folder."""
        return self.run.path / self.name

    @property
    def checkpoints(self) -> Path:
        """Where a Trainer keeps its checkpoints."""
        return self.path / "checkpoints"

    @property
    def model_path(self) -> Path:
        """Where the trained model is, as save_pretrained() writes it."""
        return self.path / "model"

    # ── what is there ───────────────────────────────────────────────────────────────────────────────────────

    def asked_for(self, settings: dict) -> "Stage":
        """This stage, with the settings that it is to have."""
        self.settings = _as_stored(settings)
        return self

    def differences(self, settings: dict) -> dict[str, tuple]:
        """{setting: (as it was trained, as it is asked for)} where the two differ."""
        there = read_json(self.path / "settings.json", {})
        wanted = _as_stored(settings).items()
        return {key: (there.get(key), value) for key, value in wanted if there.get(key) != value}

    @property
    def begun(self) -> bool:
        """True where there is a model or a checkpoint, so something to read or to go on from."""
        return self.model_path.is_dir() or self._newest_step() > 0

    @property
    def training(self) -> dict:
        """What the training of the model that is here took, its steps included; {} where none is whole."""
        return read_json(self.path / "training.json", {}) if self.model_path.is_dir() else {}

    @property
    def steps_wanted(self) -> int:
        """How many steps this stage is to be trained for; 0 where nobody noted it."""
        return (self.settings or read_json(self.path / "settings.json", {})).get("steps", 0)

    @property
    def trained(self) -> bool:
        """True once the model of the last step is here."""
        return 0 < self.steps_wanted <= self.training.get("steps", 0)

    def __str__(self) -> str:
        step = self.training.get("steps") or self._newest_step()
        state = "trained" if self.trained else f"stopped at step {step} of {self.steps_wanted}"
        return f"{self.path.name}: {state if step else 'nothing trained yet'}"

    # ── training ────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, settings: dict, origin: str = "the base model") -> int:
        """Say in one line whether training starts (from `origin`) or resumes; returns the step it starts from.

        A checkpoint is used only if it was made with the same settings and the stage had not finished. From here to
        the end of this process no other may train this stage: a RuntimeError names who does.
        """
        self.run.make()
        self.reserve()
        settings, checkpoint = _as_stored(settings), self.last_checkpoint()
        changed = sorted(self.differences(settings))
        if checkpoint and not changed:
            step = _step(checkpoint)
            self.go_on_from(step)
            print(f"{self.path.name}: resuming from step {step} of a stopped run")
            return step
        if self.finished:
            reason = "starting again: it had finished before"
        elif checkpoint:
            reason = f"starting from {origin}: the stopped run had other settings ({', '.join(changed)})"
        else:
            reason = f"starting from {origin}"
        self.forget()
        self.path.mkdir(parents=True)
        write_json(self.path / "settings.json", settings)
        print(f"{self.path.name}: {reason}")
        return 0

    def forget(self) -> None:
        """Take away all that is here, the result too."""
        (self.path / "settings.json").unlink(missing_ok=True)  # first: a kill from here on can't lead to a resume
        self.run.store_result(self.name, None)
        if self.path.exists():
            shutil.rmtree(self.path)

    def reserve(self) -> None:
        """Keep this stage for this process, until it ends; a RuntimeError names the process that has it."""
        try:
            Lock(self.run.path / ".locks" / self.name.replace("/", "-")).take(wait=1)
        except Held as error:
            raise Refused(
                f"{self.run.path.name}: another process trains this stage ({error}): wait for it or stop it, or use "
                "a folder of your own (WORKSHOP_RUN, or --output_dir)"
            ) from None

    def go_on_from(self, step: int) -> None:
        """Drop what an earlier run left behind after this step: result, model, and later records and checkpoints.

        Those may be of other settings, and a training that is stopped now must not go on from them.
        """
        self.run.store_result(self.name, None)
        (self.path / "training.json").unlink(missing_ok=True)  # first: without it the model counts as half-written
        shutil.rmtree(self.model_path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)
        for later in (folder for folder in self.checkpoints.glob("checkpoint-[0-9]*") if _step(folder) > step):
            shutil.rmtree(later)
        for path in (self.path / "log.jsonl", self.path / "monitor.jsonl"):
            kept = [record for record in read_lines(path) if record["step"] <= step]
            write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))

    def _newest_step(self) -> int:
        """The step of the newest checkpoint, whole or not; 0 for none."""
        return max(map(_step, self.checkpoints.glob("checkpoint-[0-9]*")), default=0)

    def last_checkpoint(self) -> str | None:
        """The newest whole checkpoint, which training goes on from; those cut off by a kill are removed."""
        newest = None
        for folder in sorted(self.checkpoints.glob("checkpoint-[0-9]*"), key=_step):
            if damaged_file(folder) is None:
                newest = str(folder)
            else:
                print(f"{self.path.name}: removing {folder.name}, which was cut off while it was written")
                shutil.rmtree(folder)
        return newest

    def log(self, record: dict) -> None:
        """Append one training record (it needs a `step`)."""
        append_line(self._made() / "log.jsonl", record)

    def read_log(self) -> list[dict]:
        """The training records so far."""
        return read_lines(self.path / "log.jsonl")

    def write_monitor(self, record: dict) -> None:
        """Append one measurement on the small held-out set (it needs a `step`)."""
        append_line(self._made() / "monitor.jsonl", record)

    def read_monitor(self) -> list[dict]:
        """The measurements so far."""
        return read_lines(self.path / "monitor.jsonl")

    def write_file(self, name: str, data) -> None:
        """Put JSON into a file of this stage, whole."""
        write_json(self._made() / name, data)

    def _made(self) -> Path:
        self.run.make()
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    @property
    def finished(self) -> bool:
        """True once `finish` has run."""
        return self.run.result_of(self.name) is not None

    @property
    def result(self) -> dict:
        """What `finish` stored; {} before."""
        return self.run.result_of(self.name) or {}

    def finish(self, result: dict) -> None:
        """Store the result in results.json and drop the checkpoints, which are three times as large as the model.

        Those of a training that was stopped stay: it can go on.
        """
        self.run.store_result(self.name, result)
        if self.trained or not self.training:
            shutil.rmtree(self.checkpoints, ignore_errors=True)


def _as_stored(settings: dict) -> dict:
    """As JSON gives them back: tuples are lists there."""
    return json.loads(json.dumps(settings))


def _step(checkpoint) -> int:
    return int(Path(checkpoint).name.rsplit("-", 1)[1])


def damaged_file(checkpoint: Path) -> str | None:
    """The name of the first file of a Trainer's checkpoint that is missing or cut off; None if it is whole.

    Trainer writes trainer_state.json last, so that a checkpoint that a kill cut off has none.
    """
    state = checkpoint / "trainer_state.json"
    return cut_file(checkpoint) if state.is_file() else state.name


def refuse_cut(folder: Path, fix: str) -> None:
    """Raise a DamagedFile for a model's folder with a file that is cut off; `fix` says what to do."""
    if name := cut_file(folder):
        raise DamagedFile(f"{folder / name} is missing, cut off or damaged: {fix}")


def cut_file(folder: Path) -> str | None:
    """The name of the first file of a model or checkpoint that is cut off, or a missing part; None if all are whole.

    A disk that ran full, or a copy that broke, may have cut any: JSON then ends too early, safetensors tell their
    length at their beginning, and torch's files are zip archives, whose index is at their end.
    """
    return next((path.name for path in sorted(folder.iterdir()) if _cut(path)), None) or _missing_part(folder)


def _cut(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:  # a link to nothing: a hub's cache whose files were deleted
        return path.is_symlink() or path.suffix in READABLE
    try:
        return not READABLE.get(path.suffix, bool)(path)
    except (ValueError, SafetensorError):
        return True


def _is_whole_archive(path: Path) -> bool:
    """True for what torch wrote before 1.6 too, which is no zip archive."""
    with path.open("rb") as file:
        return not b"PK".startswith(file.read(2)) or zipfile.is_zipfile(path)


READABLE = {  # {suffix: raises, or is false, for a file that is cut off}; of the others only the length is known
    ".json": lambda path: isinstance(read_json(path), dict | list),
    ".safetensors": lambda path: safe_open(path, framework="np"),
    ".jinja": bool,
    ".model": bool,
} | dict.fromkeys((".pt", ".pth", ".bin"), _is_whole_archive)


def _missing_part(folder: Path) -> str | None:
    for index in sorted(folder.glob("*.index.json")):
        parts = set(read_json(index, {}).get("weight_map", {}).values())
        if missing := sorted(name for name in parts if not (folder / name).is_file()):
            return missing[0]
    return None
