"""Compile a run's graphs before the class: AWS's neuron_parallel_compile around the notebook's own command."""

import os
import re
import shutil
import sys

from helpers.neuron.compile_cache.layout import path_text
from helpers.neuron.process import lines_of
from helpers.neuron.run import command_text

TOOL = "neuron_parallel_compile"
FAILURES = re.compile(r"Total failed compilations: (\d+)")
LOCKED = re.compile(r"\blocked are (\d+)")


def precompile(cache, command: list[str]):
    """Run TOOL on `command` (a program and its arguments) with its output shown; returns the Watch of it.

    The tool traces a few steps with NEURON_EXTRACT_GRAPHS_ONLY=1, which scripts/train.py knows, then compiles all
    graphs in parallel. Without the tool this prints what it would run, and returns None. Raises RuntimeError if the
    tool fails, if a graph fails or stays locked, or if no graph came out.
    """
    tool = shutil.which(TOOL)
    if tool is None:
        print(f"{TOOL} is not installed here: it comes with torch-neuronx (requirements-neuron.txt).")
        told = ["python" if part == sys.executable else part for part in command]
        indented = command_text([TOOL, *told]).replace("\n", "\n    ")
        print(f"On a Trainium this would run\n\n    {indented}\n")
        print(f"and leave every graph of that command compiled in {path_text(cache.path)}.")
        return None
    cache.configure()
    failures, locked = 0, 0
    before = {entry.path for entry in cache.entries() if entry.lock}
    with cache.watch() as seen:
        for line in lines_of([tool, *command], os.environ):
            print(line, flush=True)
            seen.hear(line)
            if found := FAILURES.search(line):
                failures += int(found[1])
            if found := LOCKED.search(line):
                locked = int(found[1])
    print(seen)
    if failures or seen.failed:
        raise RuntimeError(f"{max(failures, seen.failed)} graphs failed to compile: CompileCache().problems() says why")
    left = [entry for entry in cache.entries() if entry.lock and entry.path not in before]
    if locked or left:
        fix = "another process compiles them, or one that was killed: repair(), then precompile again"
        raise RuntimeError(f"{max(locked, len(left))} graphs stay locked and are not compiled: {fix}")
    if not (seen.compiled or seen.reused or cache.summary().compiled):
        raise RuntimeError(f"{TOOL} ended well but left no graph in {cache.path}: does the command train at all?")
    return seen
