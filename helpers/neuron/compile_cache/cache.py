"""CompileCache: the helper's face. What it does is in the modules beside it."""

from collections.abc import Iterator
from pathlib import Path

from helpers.neuron.compile_cache import fingerprint, layout, problems, settings, sharing
from helpers.neuron.compile_cache.problems import BLOCKING, Problem
from helpers.neuron.compile_cache.text import path_text
from helpers.neuron.compile_cache.watch import Watch, precompile


class CompileCache:
    """A Neuron compile cache: see it, trust it, share it.

    path: its folder; by default the one that NEURON_CC_FLAGS or NEURON_COMPILE_CACHE_URL names (ValueError for an
    s3:// location). compiler: the current compiler as the cache's folders name it, such as
    neuronxcc-2.21.33363.0+82129205; by default that of this environment. Where there is none, all are of interest.
    """

    def __init__(self, path: str | Path | None = None, compiler: str | None = None):
        settings.refuse_url(str(path))
        self.path = settings.configured_path() if path is None else Path(path).expanduser().absolute()
        self.compiler = compiler or fingerprint.current_compiler()

    def __repr__(self) -> str:
        return f"CompileCache({path_text(self.path)!r}, compiler={self.compiler!r})"

    def entries(self) -> Iterator[layout.Entry]:
        """Every graph: compiler, state, size in bytes, age in seconds, flags."""
        return layout.entries(self.path)

    def summary(self) -> layout.Summary:
        """How many graphs are in which state, and their bytes."""
        return layout.Summary(self.path, self.compiler)

    def problems(self, older_than: float | None = None) -> list[Problem]:
        """What is wrong, each with its fix. older_than: seconds after which what no process holds is left over."""
        return list(problems.problems(self.path, self.compiler, older_than))

    def repair(self, dry_run=True, kinds=BLOCKING, older_than: float | None = None) -> list[Problem]:
        """Print and return what would be moved to <cache>/.removed/; move it with dry_run=False.

        kinds: also "other compiler" and "foreign file", if asked for. What a process compiles is never touched.
        """
        fixed = problems.repair(self.path, self.compiler, dry_run, tuple(kinds), older_than)
        for problem in fixed:
            print(f"{'would move' if dry_run else 'moved'}: {problem.path.relative_to(self.path)} ({problem.kind})")
        if not fixed:
            print("nothing to repair")
        elif dry_run:
            print(f"{len(fixed)} to move, nothing was changed: repair(dry_run=False) moves them to {layout.REMOVED}/")
        return fixed

    def push(self, url: str, force: bool = False) -> sharing.Transfer:
        """Send finished graphs of this compiler to a folder or s3://bucket/prefix (`sharing.push`)."""
        return sharing.push(self.path, url, self.compiler, force)

    def pull(self, url: str) -> sharing.Transfer:
        """Fetch finished graphs of this compiler from a folder or s3://bucket/prefix (`sharing.pull`)."""
        return sharing.pull(self.path, url, self.compiler)

    def configure(self) -> settings.Configuration:
        """Let compiler and Optimum Neuron use this cache, here and in child processes; print what was set."""
        configuration = settings.configure(self.path)
        print(configuration)
        return configuration

    def watch(self, every: float = 0.5) -> Watch:
        """A context that counts graphs compiled and reused, and prints a line for each new one."""
        return Watch(self.path, every)

    def precompile(self, command: list[str]) -> Watch | None:
        """Run neuron_parallel_compile on a command; without Neuron's tools say what it would run (`watch`)."""
        return precompile(self, command)

    def will_it_compile(self, known: dict) -> fingerprint.Answer:
        """Whether a run with this fingerprint (`fingerprint.fingerprint`) compiles anything: yes, no or unknown."""
        return fingerprint.will_it_compile(self.path, known)
