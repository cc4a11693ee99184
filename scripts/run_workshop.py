"""Execute the numbered notebooks headless, with progress, into one run folder. `make run` calls this.

A stopped run is continued: notebooks already done are skipped, and training resumes from its last checkpoint.
Exit codes: 0 all passed, 1 a notebook failed, 2 a bad argument or a machine that can't, 130 stopped.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import nbformat
import psutil
import zmq
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from helpers.credentials import without_credentials
from helpers.evaluation import comparison_table
from helpers.files import (
    FIXES,
    REPOSITORY,
    DamagedFile,
    number_in,
    refused,
    replace_unprintable,
    write_json,
    write_text,
)
from helpers.preflight.packages import installed, pythonpath_check, read_pins
from helpers.preflight.readiness import memory_check
from helpers.runs import Run, clock, new_run, runs_folder
from helpers.runs.earlier import counts, earlier_times
from helpers.runs.folder import NOTEBOOKS, latest_run, read_object, run_lock
from helpers.runs.lock import Held
from helpers.runs.progress import Progress
from helpers.show import side_by_side, write_report
from helpers.training import get_profile
from scripts.publish_notebooks import clear, is_progress_bar

ELSEWHERE = "set WORKSHOP_RUNS to a folder elsewhere"
SAID = 200  # characters of a line that are listened to
SOURCE_LINE = re.compile(r"^SOURCE = .*$", re.MULTILINE)
FILES_NEEDED = 128  # open at once, by this process or a kernel


def main() -> int:
    replace_unprintable()
    arguments = parse_arguments()
    os.environ["WORKSHOP_RUNS"] = str(Path(arguments.runs_dir).resolve()) if arguments.runs_dir else str(runs_folder())
    try:
        profile = get_profile(arguments.profile or None)
        notebooks = choose(arguments.notebooks.split(), Path(arguments.folder), profile.name)
        source = checked_source(arguments.source)
    except ValueError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    for check in (pythonpath_check(), memory_check(profile.name)):
        if not check.ok:
            print(f"make run: {check.name}: {check.found} → {check.fix}", file=sys.stderr)
            return 2
    if (most := allow_files()) < FILES_NEEDED:
        print(f"make run: {most} files may be open at once: raise the limit with `ulimit -n 1024`", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    workshop = None
    try:
        workshop = Workshop(profile, notebooks, fresh=arguments.fresh, source=source)
        return workshop.execute()
    except (OSError, DamagedFile) as error:
        said = refused(error, runs_folder(), ELSEWHERE) or error
        print(f"make run: {said}; then `make run` goes on from here", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if workshop:
            workshop.save("stopped")
        left = workshop.seconds_left() if workshop else None
        told = f" About {clock(left)} are left." if left else ""
        again = f"`make run PROFILE={profile.name}` continues from here; FRESH=1 starts anew."
        print(f"\nStopped. {again}{told}", flush=True)
        return 130


def allow_files(wanted: int = 1024) -> int:
    """Raise this process's limit of open files, which its kernels inherit, to `wanted` or as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="", help="smoke or laptop (default)")
    parser.add_argument("--notebooks", default="", help='numbers, such as "00 01"; by default all of the hour')
    parser.add_argument("--folder", default=str(REPOSITORY / "notebooks"), help="where the notebooks are")
    parser.add_argument("--runs-dir", default="", help="where run folders are made (default: runs/)")
    parser.add_argument("--source", default="", help="preference pairs of your own, in place of notebook 01's SOURCE")
    parser.add_argument("--fresh", action="store_true", help="start a new run even if the last one was stopped")
    return parser.parse_args()


def choose(numbers: list[str], folder: Path, profile: str) -> list[Path]:
    """The notebooks with these numbers, and those that they need, in order.

    For no numbers all of them, but for those that run only when they are named: in this profile they take long.
    """
    found = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not found:
        raise ValueError(f"{folder} holds no notebook such as 00_preflight.ipynb: restore it, for example with git")
    if unknown := [number for number in numbers if number not in found]:
        raise ValueError(f"no notebook {' '.join(unknown)}: choose from {' '.join(found)}")
    notes = {number: read_notebook(path).metadata.get("workshop", {}) for number, path in found.items()}
    by_default = {number for number in found if profile not in notes[number].get("only_when_named", [])}
    for number in sorted(set(numbers) or by_default):
        if obstacle := obstacle_of(notes[number], named=number in numbers):
            if numbers:
                raise ValueError(f"notebook {number} {obstacle}")
            print(f"notebook {number} is left out: it {obstacle}")
            by_default.remove(number)
    wanted = set(numbers) or by_default
    for number in sorted(found, reverse=True):
        needs = notes[number].get("needs", [])
        if number in wanted and (missing := set(needs) - wanted):
            print(f"notebook {number} needs {' '.join(sorted(missing))}: added")
            wanted |= missing
    return [found[number] for number in sorted(wanted)]


def obstacle_of(note: dict, named: bool) -> str:
    """Why a notebook is not run that works with a user's account or takes more packages, with the fix; "" for none.

    Where the account is named in the environment, it costs money; where it is not, a rehearsal takes packages.
    """
    account = note.get("account", {})
    if on := [name for name in account.get("variables", ()) if os.environ.get(name)]:
        return "" if named else f"may cost money, since {on[0]} is set: it runs only when it is named"
    requirements = account.get("requirements") or note.get("requirements")
    pins = read_pins(REPOSITORY / requirements) if requirements else {}
    if not (missing := [name for name in pins if installed(name) == "missing"]):
        return ""
    fix = f"run `.venv/bin/python -m scripts.install {requirements}`"
    return f"needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: {fix}"


def read_notebook(path: Path):
    """A notebook; a ValueError names one that can't be read, such as an empty file or one with marks of a merge."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError, nbformat.validator.NotebookValidationError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path.name} is no notebook ({first[:100]}): restore it, for example with git") from error


def checked_source(source: str) -> str:
    """The place of a user's pairs, seen from anywhere; a ValueError where they are in no file and at no address."""
    if not source:
        return ""
    from helpers.data import DOMAINS  # it takes seconds to load, and most runs have no source of their own

    if source in DOMAINS or "://" in source:
        return source
    if Path(source).exists():
        return str(Path(source).resolve())
    if Path(source).suffix or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ValueError(f"SOURCE={source} is no file or folder here: give its path, a URL, or a hub id (owner/name)")
    return source


def on_source(notebook, source: str):
    """The notebook, changed in place: the line of notebook 01 that names the pairs, where the user gave some."""
    for cell in notebook.cells if source else ():
        if cell.cell_type == "code":
            cell.source = SOURCE_LINE.sub(lambda found: f"SOURCE = {source!r}", cell.source)
    return notebook


def hash_of_cells(notebook) -> str:
    """Of what its cells say; outputs may come and go."""
    cells = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def without_outputs(notebook):
    """The notebook, changed in place: what an earlier run printed must not stand in a cell that this one never runs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            clear(cell)
    return notebook


class Workshop:
    """One headless run: which notebooks are done is kept in <run>/state.json."""

    def __init__(self, profile, notebooks: list[Path], fresh: bool, source: str = ""):
        self.profile, self.notebooks, self.source = profile, notebooks, source
        self.sources = {path.stem: hash_of_cells(on_source(read_notebook(path), source)) for path in notebooks}
        stopped = None if fresh else self.stopped_run()
        self.run, self.state = stopped or (new_run(profile), {"done": {}, "begun": {}, "peak_memory_bytes": 0})
        try:
            run_lock(self.run.path).take(wait=1)  # until this process ends
        except Held as error:
            raise SystemExit(
                f"make run: {self.run.path.name}: {error} is still running this; wait or stop it"
            ) from None
        if stopped:
            self.forget_edited()
            print(f"Continuing {self.run.path.name}: done {' '.join(self.state['done']) or 'none'}")
        else:
            print(f"Starting {self.run.path.name}")
        self.run.measured_machine()
        self.progress = Progress(*earlier_times(profile.name))
        for name, entry in self.state["done"].items():
            if counts(entry):
                self.progress.done(name, entry["seconds"])
        (self.run.path / "notebooks").mkdir(exist_ok=True)
        self.save("running")

    def stopped_run(self) -> tuple[Run, dict] | None:
        """The latest run, if it was stopped or killed and would do the same."""
        if (latest := latest_run()) is None:
            return None
        try:
            state = read_object(latest / "state.json")
        except ValueError as error:
            print(f"{error}; a new run is started")
            return None
        if not {"status", "key", "done"} <= set(state) or state["status"] == "finished" or self.key() != state["key"]:
            return None
        if not all("seconds" in entry for entry in state["done"].values()):  # an older version wrote it
            return None
        if owner := run_lock(latest).holder():
            raise SystemExit(f"make run: {owner} is still running {latest.name}; wait for it or stop it")
        return Run(latest, self.profile), {"begun": {}} | state

    def forget_edited(self) -> None:
        """A notebook edited since it ran, and what follows it and may depend on it, are done and trained again."""
        begun = self.state["begun"]
        edited = [name for name, source in begun.items() if source != self.sources.get(name)]
        for name in [name for name in begun if edited and name >= min(edited)]:
            self.state["done"].pop(name, None)
            for method in (method for method, number in NOTEBOOKS.items() if name.startswith(number)):
                self.run.stage(method).forget()
            del begun[name]

    def key(self) -> list:
        """What decides a run: a stopped one is continued only if all of it is unchanged."""
        return [asdict(self.profile), sorted(self.sources), os.environ.get("WORKSHOP_PRECISION", ""), self.source]

    def save(self, status: str) -> None:
        """Write the state; whoever reads it after a kill sees the last notebook that was done."""
        self.state |= {"status": status, "key": self.key()}
        write_json(self.run.path / "state.json", self.state)

    def execute(self) -> int:
        """Run what is not done yet, then the report and the table."""
        for path in self.notebooks:
            if path.stem in self.state["done"]:
                continue
            resumed = {"resumed": True} if path.stem in self.state["begun"] else {}
            self.state["begun"][path.stem] = self.sources[path.stem]
            self.save("running")
            execution = Execution(path, self, **resumed)
            error = execution.execute()
            self.state["peak_memory_bytes"] = max(self.state["peak_memory_bytes"], execution.peak_memory)
            if error:
                self.save("failed")
                print(f"\nFAILED: {error}\n", flush=True)
                self.finish()
                return 1
            entry = {"seconds": execution.seconds, "cells": execution.cell_seconds} | resumed
            self.state["done"][path.stem] = entry
            if counts(entry):
                self.progress.done(path.stem, execution.seconds)
            self.save("running")
        self.save("finished")
        self.finish()
        return 0

    def finish(self) -> None:
        seconds = sum(entry["seconds"] for entry in self.state["done"].values())
        measured = (result.get("peak_memory_bytes", 0) for result in self.run.results["methods"].values())
        memory = max(self.state["peak_memory_bytes"], 0, *measured)  # the samples may miss a peak that a stage noted
        run = {"seconds": seconds, "peak_memory_bytes": memory, "status": self.state["status"]}
        self.run.write_results(run=run | {"seconds_left": self.seconds_left()})
        report = write_report(self.run.path)
        if methods := side_by_side(self.run.results):
            print("\n" + comparison_table(methods, self.run.results.get("baselines")) + "\n")
        print(f"{self.state['status']} in {clock(seconds)}, peak memory {memory / 2**30:.1f} GiB")
        print(f"report: {os.path.relpath(report)}")

    def seconds_left(self) -> float | None:
        """Until all notebooks are done, at the pace of this machine; None where a notebook was never timed."""
        return self.progress.left([path.stem for path in self.notebooks if path.stem not in self.state["done"]])


class ThisPython(KernelSpecManager):
    """One kernel under every name: the Python of this process. A kernel of the user's may be another's."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        keep_all = "__import__('sys').stdout.pub_thread.socket.setsockopt(__import__('zmq').SNDHWM, 0)"
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += [f"--IPKernelApp.exec_lines={keep_all}"]  # else the kernel drops output that comes too fast
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


class Execution(NotebookClient):
    """One notebook in a fresh kernel, with a line of progress."""

    def __init__(self, path: Path, workshop: Workshop, resumed: bool = False):
        self.path, self.workshop, self.resumed = path, workshop, resumed
        self.target = workshop.run.path / "notebooks" / path.name
        self.started, self.seconds, self.peak_memory = time.monotonic(), 0.0, 0
        self.cell_seconds: list[float] = []
        self.number, self.said = 0, ""
        self.heard, self.missing = 0, {}  # the number of the newest message; {number that never came: cell}
        super().__init__(
            without_outputs(on_source(read_notebook(path), workshop.source)),
            timeout=None,
            iopub_timeout=600,  # seconds to read what a cell printed after it has ended
            raise_on_iopub_timeout=True,
            kernel_name="python3",
            resources={"metadata": {"path": "."}},
        )

    def execute(self) -> str | None:
        """Run every cell; returns None, or what went wrong. The executed notebook is kept in either case."""
        self.reset_execution_trackers()
        done, progress = threading.Event(), self.workshop.progress
        watcher = threading.Thread(target=self.watch, args=(done,), daemon=True)
        environment = {"PROFILE": self.workshop.profile.name, "WORKSHOP_RUN": str(self.workshop.run.path)}
        environment |= {"PYTHONOPTIMIZE": ""}  # which would take away every assert
        sockets = tempfile.TemporaryDirectory(prefix="workshop-")
        kernels_own = Path(sockets.name, "said")  # by the kernel itself; its cells' output comes as messages
        descriptor = os.open(kernels_own, os.O_WRONLY | os.O_CREAT)
        manager = self.create_kernel_manager()
        manager.kernel_spec_manager = ThisPython()
        manager.context.setsockopt(zmq.RCVHWM, 0)  # and so does this end
        manager.transport, manager.ip = "ipc", f"{sockets.name}/kernel"  # on disk: nobody on the network can listen
        try:
            progress.start(self.path.stem, len(self.nb.cells), self.resumed)
            self.start_new_kernel(env=os.environ | environment, cwd=str(REPOSITORY), stderr=descriptor)
            self.start_new_kernel_client()
            watcher.start()
            for number, cell in enumerate(self.nb.cells):
                self.number = number
                progress.next_cell()
                self.execute_cell(cell, number)
        except CellExecutionError as error:
            last = error.evalue.strip().splitlines() or [failing_line(error.traceback)]
            number = number_in(error.evalue)
            fix = f": {FIXES[number].format(ELSEWHERE)}" if number else ""
            return f"{self.path.name}, cell {self.number + 1}: {error.ename}: {last[0]}{fix}"
        except DeadKernelError:
            kept = "it was killed, perhaps for want of memory"
            return f"{self.path.name}, cell {self.number + 1}: the kernel died ({kept}); make run goes on from here"
        except (zmq.ZMQError, RuntimeError) as error:
            why = last_said(kernels_own) or str(error)
            if number := getattr(error, "errno", None) or number_in(why):
                why = refused(OSError(number, why), Path(sockets.name), "set TMPDIR to a short path, such as /tmp")
            return f"{self.path.name}: the kernel can't be started or reached: {why}"
        finally:
            done.set()
            if watcher.is_alive():
                watcher.join()
            self.seconds = time.monotonic() - self.started
            self.cell_seconds = [round(seconds, 2) for seconds in progress.cell_seconds()]
            progress.leave()
            if self.km is not None and self.kc is not None:
                self._cleanup_kernel()
            os.close(descriptor)
            sockets.cleanup()
            self.name_what_was_lost()
            write_text(self.target, nbformat.writes(tidied(self.nb)))
        self.print_line(f"{self.path.stem:<24} done in {clock(self.seconds)}", last=True)
        return None

    def process_message(self, msg, cell, cell_index):
        """Keep the last line that the cell printed, for the progress line and the time left."""
        self.said = last_line(msg) or self.said
        self.workshop.progress.hear(last_line(msg))
        self.count_lost(msg, cell_index)
        return super().process_message(msg, cell, cell_index)

    def count_lost(self, msg: dict, cell_index: int) -> None:
        """The kernel numbers its messages: a gap before one of a cell's output means that some never arrived.

        The value of a cell's last line is numbered before what the cell printed, and comes after it.
        """
        number = int(msg["header"]["msg_id"].rsplit("_", 1)[-1])
        self.missing.pop(number, None)
        if msg["msg_type"] != "status" and self.heard:
            self.missing |= dict.fromkeys(range(self.heard + 1, number), cell_index)
        self.heard = max(self.heard, number)

    def name_what_was_lost(self) -> None:
        """Say so in the cell and on the terminal: the rest of the output would look whole."""
        for index, number in sorted(Counter(self.missing.values()).items()):
            pieces = "1 piece" if number == 1 else f"{number} pieces"
            said = f"{pieces} of this cell's output came faster than could be kept, and got lost"
            self.nb.cells[index].outputs.append(nbformat.v4.new_output("stream", name="stderr", text=f"[{said}]\n"))
            self.print_line(f"{self.path.name}, cell {index + 1}: {said}", last=True)

    def watch(self, done: threading.Event) -> None:
        """Every second: sample memory and rewrite the progress line (every ten where the output is no terminal)."""
        ticks = 0
        while not done.wait(1):
            ticks += 1
            self.sample_memory()
            if sys.stdout.isatty() or ticks % 10 == 0:
                elapsed = time.monotonic() - self.started
                left = self.workshop.seconds_left()
                all_left = f", about {clock(left)} left in all" if left is not None else ""
                cells = f"cell {self.number + 1}/{len(self.nb.cells)}"
                self.print_line(f"{self.path.stem:<24} {cells:<11} {clock(elapsed)}{all_left} · {self.said[:70]}")

    def sample_memory(self) -> None:
        try:
            kernel = psutil.Process(self.km.provisioner.process.pid)
            family = [kernel, *kernel.children(recursive=True)]
            self.peak_memory = max(self.peak_memory, sum(process.memory_info().rss for process in family))
        except psutil.NoSuchProcess:
            return  # the kernel has just ended

    def print_line(self, text: str, last: bool = False) -> None:
        if sys.stdout.isatty():
            width = os.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="\n" if last else "", flush=True)
        else:
            print(text, flush=True)


def last_line(msg: dict) -> str:
    """The last line of what a kernel's message prints, or how far its progress bar is; "" if it says neither."""
    if msg["msg_type"] == "stream":
        lines = [part.strip() for part in msg["content"]["text"].replace("\r", "\n").split("\n") if part.strip()]
        return lines[-1][:SAID] if lines else ""
    if msg["msg_type"] == "comm_msg":  # in a notebook tqdm's bar is a widget, whose label is "name:  33%"
        label = msg["content"]["data"].get("state", {}).get("value")
        return " ".join(label.split()) if isinstance(label, str) and label.endswith("%") else ""
    return ""


def failing_line(traceback: str) -> str:
    """The line of a cell that raised, where its error says nothing, as a bare assert."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", traceback)
    return next(iter(re.findall(r"^-+> +\d+ +(.+)$", plain, re.MULTILINE)), "")


def last_said(path: Path) -> str:
    """The last line of a file."""
    return (path.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]


def tidied(notebook):
    """The notebook with what its cells printed made fit to be shared, changed in place.

    Of lines that a carriage return overwrites what stood there last is kept, as a terminal does: else a reader would
    scroll through every step. Progress bars are left out: where no kernel runs they stand at 0%. Warnings of libraries
    name their file: from the repository or home folder on, no further. What looks like a credential is taken out.
    """
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = joined(output for output in cell.outputs if not is_progress_bar(output))
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n")]
                text = "\n".join(lines).replace(f"{REPOSITORY}{os.sep}", "")
                output.text = without_credentials(text.replace(f"{Path.home()}{os.sep}", f"~{os.sep}"))
            for kind, shown in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(shown, str):
                    output.data[kind] = without_credentials(shown)
    return notebook


def joined(outputs) -> list:
    """The outputs with the pieces of a stream made one: a kernel sends each flush as a piece.

    Between two figures or the like both streams are whole: what was printed, then the warnings.
    """
    kept = []
    for is_stream, group in groupby(outputs, lambda output: output.output_type == "stream"):
        pieces = list(group)
        if is_stream:
            names = sorted({piece.name for piece in pieces}, reverse=True)
            texts = {name: "".join(piece.text for piece in pieces if piece.name == name) for name in names}
            pieces = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in texts.items()]
        kept += pieces
    return kept


if __name__ == "__main__":
    sys.exit(main())
