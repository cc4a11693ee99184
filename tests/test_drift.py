"""What our files import from the libraries, and the arguments they give, exist in the releases that are installed.

Runs on the workshop's stack and, by `make newest`, on the newest: a name that is gone is told with file and line.
"""

import ast
import importlib
import inspect
from functools import cache

import pytest
import trl
from transformers import Trainer

from helpers.files import REPOSITORY

LIBRARIES = ("transformers", "trl", "accelerate", "peft", "datasets")
# Optimum Neuron ties these to the workshop's stack; the comparison's tests count what TRL 0.24's trainers do, and the
# chat server is transformers 4.57's
PINNED = ("helpers/neuron/", "benchmarks/", "tests/rehearsal/", "tests/techniques/")
PINNED += ("helpers/sagemaker/chat_server.py",)
OF_TRAINER = (  # what our trainers override or call that isn't in Trainer's documentation
    "_get_num_items_in_batch",
    "_get_train_sampler",
    "_inner_training_loop",
    "_load_from_checkpoint",
    "_prepare_inputs",
    "evaluation_loop",
    "get_batch_samples",
    "log",
    "prediction_step",
    "training_step",
)


def files() -> list[str]:
    """Our Python files with what this stack must have."""
    found = [
        path
        for folder in ("helpers", "scripts", "tests", "benchmarks")
        for path in REPOSITORY.glob(f"{folder}/**/*.py")
    ]
    names = sorted(path.relative_to(REPOSITORY).as_posix() for path in found)
    return [name for name in names if trl.__version__.startswith("0.") or not name.startswith(PINNED)]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((REPOSITORY / name).read_text(encoding="utf-8"))


def guarded(module: ast.Module) -> set[ast.AST]:
    """What stands in a branch or a try: code that asks first what a release has."""
    branches = [node for node in ast.walk(module) if isinstance(node, ast.If | ast.Try)]
    return {inner for node in branches for inner in ast.walk(node)}


def imports(name: str) -> dict[str, tuple[int, str, str]]:
    """{name in the file: (line, module, name there)} of all that comes from the libraries."""
    found, asked = {}, guarded(tree(name))
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node not in asked and (node.module or "").split(".")[0] in LIBRARIES:
            found |= {each.asname or each.name: (node.lineno, node.module, each.name) for each in node.names}
    return found


def resolved(module: str, name: str):
    """The object, or the module of that name; None if it is gone."""
    try:
        return getattr(importlib.import_module(module), name, None) or importlib.import_module(f"{module}.{name}")
    except ImportError:
        return None


def gone(name: str) -> list[str]:
    """A line for each import and each keyword argument of a file that this stack lacks."""
    ours, told = imports(name), []
    for line, module, wanted in ours.values():
        if resolved(module, wanted) is None:
            told.append(f"{name}:{line}: {module} has no {wanted}")
    for node in ast.walk(tree(name)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ours):
            continue
        called = resolved(*ours[node.func.id][1:])
        known = accepted(called)
        for keyword in node.keywords if known else ():
            if keyword.arg and keyword.arg not in known:
                told.append(f"{name}:{node.lineno}: {node.func.id} has no argument {keyword.arg}")
    return told


def accepted(called) -> set[str] | None:
    """The names of a callable's arguments; None where it takes any."""
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return None
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters) else {each.name for each in parameters}


def test_no_import_and_no_argument_is_gone():
    assert not [line for name in files() for line in gone(name)]


@pytest.mark.parametrize("name", OF_TRAINER)
def test_trainer_has_what_ours_lean_on(name):
    assert hasattr(Trainer, name), "helpers/training/preference.py, draws.py, sft.py and stages.py use it"


def test_what_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_drift.REPOSITORY", tmp_path)
    code = "from trl import Nowhere\nfrom peft import LoraConfig\nLoraConfig(r=4, rank=4)\n"
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    assert gone("mine.py") == ["mine.py:1: trl has no Nowhere", "mine.py:3: LoraConfig has no argument rank"]
