"""The compile cache in a terminal. Exit codes: 0 well, 1 problems or a failed transfer, 2 a bad argument.

python -m helpers.neuron.compile_cache status
python -m helpers.neuron.compile_cache repair --yes
python -m helpers.neuron.compile_cache push s3://bucket/prefix
"""

import argparse
import json
import os
import sys
from pathlib import Path

from helpers.files import refused, replace_unprintable
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.problems import BLOCKING, MOVED
from helpers.neuron.compile_cache.text import path_text
from helpers.store import TransferError


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helpers.neuron.compile_cache", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", help="its folder; by default the one that the environment's variables name")
    parser.add_argument("--compiler", help="such as neuronxcc-2.21.33363.0+82129205; by default the installed one")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="how many graphs are in which state")
    status.add_argument("--json", action="store_true", help="for scripts")
    commands.add_parser("problems", help="what is wrong, with the fix; exits with 1 if anything is")
    repair = commands.add_parser("repair", help="show what would be moved away; --yes moves it")
    repair.add_argument("--yes", action="store_true", help="move it to <cache>/.removed/")
    repair.add_argument("--kind", action="append", choices=MOVED, help="only this kind; may be given several times")
    stale = "when a lock that no process holds is stale"
    repair.add_argument("--older-than", type=float, metavar="SECONDS", help=stale)
    push = commands.add_parser("push", help="send finished graphs")
    push.add_argument("--force", action="store_true", help="also those that are there, to fix damaged ones")
    pull = commands.add_parser("pull", help="fetch finished graphs")
    for command in (push, pull):
        command.add_argument("url", help="a folder or s3://bucket/prefix")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    replace_unprintable()
    asked = parse(arguments)
    try:
        cache = CompileCache(asked.cache, asked.compiler)
        if cache.path and cache.path.is_file():
            raise ValueError(f"{cache.path} is a file: give the cache's folder")
        return run(cache, asked)
    except (ValueError, TransferError, OSError) as error:
        print(f"compile_cache: {told(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


def told(error: Exception) -> str:
    """An error in one line. What the system refused is named with the fix."""
    if isinstance(error, OSError) and error.filename is None and error.strerror != os.strerror(error.errno or 0):
        return error.strerror or str(error)  # our own, with its fix
    return refused(error, Path("the disk"), "choose another folder") or str(error)


def run(cache: CompileCache, asked: argparse.Namespace) -> int:
    if asked.command == "status":
        summary = cache.summary()
        facts = {"path": str(cache.path), "states": summary.states, "bytes": summary.bytes, "graphs": summary.graphs}
        print(json.dumps(facts) if asked.json else f"{path_text(cache.path)}\n{summary}")
    elif asked.command == "problems":
        found = cache.problems()
        print("\n".join(map(str, found)) or "no problems")
        return int(bool(found))
    elif asked.command == "repair":
        cache.repair(dry_run=not asked.yes, kinds=asked.kind or BLOCKING, older_than=asked.older_than)
    else:
        done = cache.push(asked.url, asked.force) if asked.command == "push" else cache.pull(asked.url)
        print(done)
        return int(not done.ok)
    return 0


if __name__ == "__main__":
    sys.exit(main())
