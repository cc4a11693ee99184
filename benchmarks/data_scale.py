"""How long it takes, and how much memory, to load, validate and tokenise many preference pairs.

python -m benchmarks.data_scale [--rows 10000 40000 100000 1000000]

The pairs are synthetic: words of a built-in domain, drawn at random as often as they occur there. How many words a text
has follows log-normal distributions chosen after public sets of general chat such as orpo-dpo-mix-40k (prompt: median
60 words, answers: 220 and 180, all with a long tail; the hub could not be asked for the exact ones). Each size is
prepared in a fresh process, twice: the second time from the cache. Recorded in
docs/results/data-scale.json; sizes that were not asked for stay there as they are.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from pyarrow.parquet import read_table

from helpers.evaluation import markdown_table
from helpers.files import REPOSITORY, read_json, write_json
from helpers.runs import here_and_now, provenance, read_recorded, results_folder

MAX_LENGTH = 1024
SAMPLE = 0.05  # seconds between two looks at the memory
LENGTHS = {"prompt": (60, 1.0, 1500), "chosen": (220, 0.8, 2000), "rejected": (180, 0.8, 2000)}  # median, spread, most
RESULT = "data-scale.json"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 40_000, 100_000])
    parser.add_argument("--prepare", type=Path, help="prepare one file, in this process, and print what it took")
    options = parser.parse_args(arguments)
    if options.prepare:
        print(json.dumps(prepare(options.prepare)))
        return
    target = results_folder() / RESULT
    kept = {size["rows"]: size for size in read_json(target, {}).get("sizes", [])}  # a million takes half an hour
    for rows in options.rows:
        kept[rows] = here_and_now() | measured(rows)
        print(kept[rows], flush=True)
        sizes = [size for _, size in sorted(kept.items())]
        write_json(target, {"cores": psutil.cpu_count(), "max_length": MAX_LENGTH, "sizes": sizes})


def recorded_scale() -> dict:
    """The recorded sizes; a FileNotFoundError says how to measure them."""
    return read_recorded(RESULT, "sizes of data", "python -m benchmarks.data_scale")[0]


def scale_table(record: dict) -> str:
    """Markdown: a line for each size, seconds of each step at first and from the cache, and the peak memory."""
    steps = {"load": "load", "validate": "validate", "tokenize": "template and tokenise"}
    head = ["pairs", "file", *steps.values(), "in all", "CPU time", "again, from the cache", "peak of its own memory"]
    lines = []
    for size in record["sizes"]:
        first, again = size["first"]["seconds"], size["again"]["seconds"]
        kept = again["load"] + again["tokenize"]
        worked = size["first"]["cpu_seconds"]  # of all cores: comparable where other work shares the machine
        seconds = [f"{value:.0f} s" for value in (*(first[step] for step in steps), sum(first.values()), worked)]
        peak = f"{max(max(size[turn]['peaks'].values()) for turn in ('first', 'again')) / 2**30:.2f} GiB"
        lines.append([f"{size['rows']:,}", f"{size['bytes'] / 1e6:.0f} MB", *seconds, f"{kept:.1f} s", peak])
    source = f"`python -m benchmarks.data_scale`, {record['cores']} cores"
    return markdown_table(head, lines) + f"\n\n*{provenance(source, record['sizes'])}*"


def measured(rows: int) -> dict:
    """What preparing a set of so many pairs takes, at first and from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write_pairs(path, rows)
        command = [sys.executable, "-m", "benchmarks.data_scale", "--prepare", str(path)]
        first, again = (_last_line(command) for _ in range(2))
        return {"rows": rows, "bytes": path.stat().st_size, "first": first, "again": again}


def _last_line(command: list[str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def prepare(path: Path) -> dict:
    """Seconds of each step and the peak of this process's own memory in it, the libraries included."""
    from helpers.data import load_preferences, tokenize_preferences, validate_preferences
    from helpers.training import load_tokenizer

    tokenizer = load_tokenizer("smoke")  # of SmolLM2
    os.environ["WORKSHOP_CACHE"] = str(path.parent / "cache")  # the model's stays where it is
    steps = Steps()
    pairs = steps.time("load", lambda: load_preferences(path))
    report = steps.time("validate", lambda: validate_preferences(pairs))
    tokens = steps.time("tokenize", lambda: tokenize_preferences(pairs, tokenizer, MAX_LENGTH))
    assert len(tokens) == len(pairs) and not report.problems
    processor = psutil.Process().cpu_times()
    cpu = processor.user + processor.system + processor.children_user + processor.children_system
    return {"seconds": steps.seconds, "cpu_seconds": cpu, "peaks": steps.peaks}


class Steps:
    """Seconds of each step, and the peak of the process's own memory while it ran."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    def time(self, name: str, step):
        """What the step returns."""
        samples, end = [own_memory()], threading.Event()

        def watch() -> None:
            while not end.wait(SAMPLE):
                samples.append(own_memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        try:
            result = step()
        finally:
            self.seconds[name] = time.perf_counter() - started
            end.set()
            watcher.join()
        self.peaks[name] = max(samples)
        return result


def own_memory() -> int:
    """Resident bytes that are no pages of a file: a mapped file's go back to the system whenever it needs them."""
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)


def write_pairs(path: Path, rows: int, seed: int = 0) -> None:
    """A JSON Lines file of synthetic pairs, as conversations whose beginning is the prompt."""
    draw = random.Random(seed)
    words = domain_words()
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            prompt, chosen, rejected = (_text(draw, words, *LENGTHS[column]) for column in LENGTHS)
            asked = {"role": "user", "content": prompt}
            row = {
                side: [asked, {"role": "assistant", "content": answer}]
                for side, answer in (("chosen", chosen), ("rejected", rejected))
            }
            file.write(json.dumps(row) + "\n")


def domain_words() -> list[str]:
    """All words of the built-in pairs of descriptions, each as often as it occurs."""
    rows = read_table(REPOSITORY / "data" / "aws-api.parquet", columns=["chosen"])["chosen"].to_pylist()
    return [word for answer in rows for word in answer[0]["content"].split()]


def _text(draw: random.Random, words: list[str], median: int, spread: float, most: int) -> str:
    count = min(most, max(3, int(median * draw.lognormvariate(0, spread))))
    return " ".join(draw.choices(words, k=count)).capitalize() + "."


if __name__ == "__main__":
    main(sys.argv[1:])
