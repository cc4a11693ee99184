"""A notebook's cells in a kernel, one by one, in any order, with interrupts: what a person does in JupyterLab."""

import os
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager

from helpers.files import REPOSITORY
from scripts.kernel import spec_of

WAIT = 300  # seconds for one cell


class Cells:
    """A notebook and a fresh kernel of the workshop's for it; a context manager that ends the kernel.

    variables: of the kernel's environment. `shown`: what the last cell displayed, by MIME type.
    """

    def __init__(self, number: str, runs: Path, **variables: str):
        (path,) = (REPOSITORY / "notebooks").glob(f"{number}*.ipynb")
        self.sources = {
            cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
        }
        self.runs, self.variables = runs, variables

    def __enter__(self):
        self.manager = KernelManager(kernel_name="orpo-workshop", kernel_spec_manager=WorkshopKernel())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKSHOP_RUN")}
        environment = kept | {"PROFILE": "smoke", "WORKSHOP_RUNS": str(self.runs), "HF_HUB_OFFLINE": "1"}
        environment |= self.variables
        self.manager.start_kernel(env=environment, cwd=str(REPOSITORY / "notebooks"))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WAIT)
        return self

    def __exit__(self, *error):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def id_with(self, text: str) -> str:
        """The cell whose source holds this text."""
        (found,) = (name for name, source in self.sources.items() if text in source)
        return found

    def run(self, first: str, last: str | None = None) -> str:
        """Run the cell that holds `first`, or all to the one that holds `last`: what they printed; no error."""
        order = list(self.sources)
        start, end = (order.index(self.id_with(text)) for text in (first, last or first))
        return "".join(self.execute(self.sources[name])[0] for name in order[start : end + 1])

    def run_all(self) -> str:
        """Run every cell, as Run All does."""
        return "".join(self.execute(source)[0] for source in self.sources.values())

    def fails(self, source: str) -> list[str]:
        """What a cell that fails shows of its error, line by line."""
        said, error = self.begin(source).finish()
        assert error, f"no error, but: {said}"
        return error

    def execute(self, source: str) -> tuple[str, list[str]]:
        said, error = self.begin(source).finish()
        assert not error, "\n".join(error)
        return said, error

    def begin(self, source: str) -> "Cells":
        """Start a cell and come back at once."""
        self.message, self.shown = self.client.execute(source), []
        return self

    def finish(self) -> tuple[str, list[str]]:
        """Wait for the cell that was begun: what it printed, and the lines of its error."""
        said, error, deadline = "", [], time.monotonic() + WAIT
        while True:
            message = self.client.get_iopub_msg(timeout=deadline - time.monotonic())
            content, kind = message["content"], message["msg_type"]
            if message["parent_header"].get("msg_id") != self.message:
                continue
            if kind == "stream":
                said += content["text"]
            elif kind in ("display_data", "execute_result"):
                self.shown.append(content["data"])
            elif kind == "error":
                error = "\n".join(content["traceback"]).splitlines()
            elif kind == "status" and content["execution_state"] == "idle":
                return said, error

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()


class WorkshopKernel(KernelSpecManager):
    """The kernel as `make setup` writes it, of this Python."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        spec = spec_of(Path(sys.executable))
        return KernelSpec(argv=spec["argv"], display_name=kernel_name, language="python")
