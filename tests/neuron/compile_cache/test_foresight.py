"""Whether the next run compiles: fingerprints, watching, precompiling; and the cache in a terminal and a notebook."""

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.files import REPOSITORY
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.fingerprint import differences, fingerprint, fingerprints, leave, remember
from helpers.neuron.compile_cache.layout import FINGERPRINTS, STATES
from helpers.neuron.compile_cache.sample import (
    COMPILER,
    GRAPH_LOCK,
    add_compiled,
    add_failed,
    add_graph,
    graph_name,
    make_sample,
)
from helpers.neuron.process import lines_of
from helpers.neuron.run import command_text, on_cores, train_command
from helpers.show import cache_browser as browser
from helpers.training.base_model import SMOKE, load_config

SETTINGS = {"per_device_train_batch_size": 4, "max_length": 128, "bf16": True, "beta": 0.1, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def a_machine_with_this_compiler(monkeypatch):
    monkeypatch.setattr("helpers.neuron.compile_cache.fingerprint.current_compiler", lambda: COMPILER)
    for name in ("NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path) -> CompileCache:
    return CompileCache(tmp_path / "cache", COMPILER)


def known(method: str = "orpo", lora_rank: int = 8, **changes) -> dict:
    config = load_config(SMOKE)
    config.update({"num_hidden_layers": changes.pop("num_hidden_layers", config.num_hidden_layers)})
    return fingerprint(method, config, SimpleNamespace(**SETTINGS | changes), lora_rank, ["q_proj"])


def finished_run(cache, numbers, count=None, **changes) -> None:
    """A run that compiles these graphs and leaves its fingerprint."""
    before = {entry.name for entry in cache.entries()}
    for number in numbers:
        add_compiled(cache.path, number)
    leave(cache.path, known(**changes), before, count)


# ── fingerprints ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fingerprint_holds_what_decides_the_graphs_and_no_names_of_this_machine(monkeypatch):
    monkeypatch.setenv("NEURON_CC_FLAGS", "--lnc=2 --cache_dir=/home/somebody/cache -O1")
    monkeypatch.setenv("WORLD_SIZE", "8")
    found = known()
    expected = {"method": "orpo", "model.hidden_size": 64, "model.num_hidden_layers": 2, "lora_rank": 8, "processes": 8}
    expected |= {"compiler": COMPILER, "compiler_flags": ["--lnc=2", "-O1"], "lora_targets": ["q_proj"]} | SETTINGS
    assert all(found[name] == value for name, value in expected.items())
    assert {"version.transformers", "version.torch", "model.model_type", "model.rope_theta"} <= set(found)
    assert "somebody" not in json.dumps(found) and not any("token_id" in name for name in found)
    assert not {"model.max_length", "model.temperature", "model._name_or_path"} & set(found)


def test_nothing_is_known_of_an_empty_cache(cache):
    answer = cache.will_it_compile(known())
    assert answer.verdict == "unknown" and "no finished run" in str(answer)


def test_the_same_run_again_compiles_nothing(cache):
    finished_run(cache, range(3), count=3)
    answer = cache.will_it_compile(known())
    assert answer.verdict == "no" and answer.differs == {}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"max_length": 256}, {"max_length": (128, 256)}),
        ({"per_device_train_batch_size": 2}, {"per_device_train_batch_size": (4, 2)}),
        ({"bf16": False}, {"bf16": (True, False)}),
        ({"method": "sft"}, {"method": ("orpo", "sft")}),
        ({"method": "dpo"}, {"method": ("orpo", "dpo")}),
        ({"num_hidden_layers": 4}, {"model.num_hidden_layers": (2, 4)}),
        ({"lora_rank": 16}, {"lora_rank": (8, 16)}),
    ],
)
def test_what_differs_from_the_nearest_run_is_named(cache, change, differs):
    finished_run(cache, range(3), count=3, max_length=512, beta=0.7)
    finished_run(cache, range(10, 13), count=3)
    answer = cache.will_it_compile(known(**change))
    assert (answer.verdict, answer.differs) == ("yes", differs)
    (name, (then, now)) = next(iter(differs.items()))
    assert f"{name} {then} → {now}" in str(answer)


def test_a_number_in_the_step_may_or_may_not_be_in_a_graph(cache):
    finished_run(cache, range(3), count=3)
    answer = cache.will_it_compile(known(learning_rate=2e-3))
    assert answer.verdict == "unknown" and "learning_rate 0.001 → 0.002" in str(answer)


@pytest.mark.parametrize(
    "variable", ["XLA_FLAGS", "XLA_USE_BF16", "NEURON_PLATFORM_TARGET_OVERRIDE", "NEURON_LOGICAL_NC_CONFIG"]
)
def test_variables_of_the_compiler_and_of_xla_are_part_of_the_question(cache, monkeypatch, variable):
    finished_run(cache, range(3), count=3)
    monkeypatch.setenv(variable, "2")
    answer = cache.will_it_compile(known())
    assert answer.verdict == "unknown" and f"environment.{variable} None → 2" in str(answer)


def test_a_cache_of_another_kind_of_instance_is_no_promise(cache, monkeypatch, tmp_path):
    product = tmp_path / "product_name"
    monkeypatch.setattr("helpers.neuron.compile_cache.fingerprint.PRODUCT", product)
    product.write_text("trn1.2xlarge\n")
    finished_run(cache, range(3), count=3)
    product.write_text("trn1.32xlarge\n")
    assert cache.will_it_compile(known()).verdict == "no"
    product.write_text("trn2.48xlarge\n")
    answer = cache.will_it_compile(known())
    assert answer.verdict == "unknown" and "environment.instance trn1 → trn2" in str(answer)
    product.write_text("KVM\n")
    assert "environment.instance" not in known()


def test_places_logs_and_cores_are_not(cache, monkeypatch):
    finished_run(cache, range(3), count=3)
    for name in ("NEURON_RT_VISIBLE_CORES", "NEURON_RT_LOG_LEVEL", "XLA_PERSISTENT_CACHE_PATH", "NEURON_DUMP_PATH"):
        monkeypatch.setenv(name, "0")
    assert cache.will_it_compile(known()).verdict == "no"


def test_a_cache_that_cannot_be_read_ends_no_training(cache, monkeypatch, capsys):
    with cache.watch(every=0.01) as seen:
        monkeypatch.setattr(seen, "look", lambda: os.listdir("/nowhere/at/all"))
        time.sleep(0.1)
    assert capsys.readouterr().out.count("the compile cache can't be read (No such file or directory)") == 1


def test_a_cache_of_another_user_ends_no_training(cache, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(cache.path))

    monkeypatch.setattr("helpers.neuron.compile_cache.watch.entries", refuse)
    with cache.watch(every=0.01) as seen:
        time.sleep(0.05)
    assert seen.compiled == 0
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(cache.path))
    monkeypatch.setattr("helpers.neuron.compile_cache.fingerprint.graph_names", refuse)
    with remember(known()):
        print("trained")
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "the compile cache can't be read (Permission denied): its graphs are not counted",
        "The compile cache can't be read (Permission denied): this run's fingerprint is not kept",
        "trained",
    ]


def test_package_versions_count(cache, monkeypatch):
    finished_run(cache, range(3), count=3)
    newer = known() | {"version.transformers": "9.0"}
    assert list(cache.will_it_compile(newer).differs) == ["version.transformers"]


def test_graphs_that_are_gone_will_be_compiled_again(cache):
    finished_run(cache, range(3), count=3)
    neff = cache.path / COMPILER / graph_name(1) / "model.neff"
    neff.unlink()
    answer = cache.will_it_compile(known())
    assert answer.verdict == "yes" and "1 of its 3 graphs are not here any more" in str(answer)


def test_graphs_of_other_runs_that_it_may_have_used_are_minded(cache):
    finished_run(cache, range(3), count=3, method="sft")
    finished_run(cache, range(10, 12), count=4)
    assert cache.will_it_compile(known()).verdict == "no"
    (cache.path / COMPILER / graph_name(0) / "model.neff").unlink()
    answer = cache.will_it_compile(known())
    assert answer.verdict == "unknown" and "1 graphs that it may have used" in str(answer)


def test_a_warm_run_keeps_what_the_cold_one_noted(cache):
    finished_run(cache, range(3), count=3)
    finished_run(cache, [], count=3)
    (record,) = fingerprints(cache.path)
    assert sorted(record["graphs"]) == sorted(map(graph_name, range(3))) and record["among"] == []


def test_a_precompiled_run_is_known_once_its_graphs_are_compiled(cache):
    folder = add_graph(cache.path, 1)
    leave(cache.path, known(), set(), 1)
    assert cache.will_it_compile(known()).verdict == "yes"
    (folder / "model.neff").write_bytes(b"compiled")
    (folder / "model.done").touch()
    assert cache.will_it_compile(known()).verdict == "no"


def test_a_damaged_fingerprint_is_passed_over(cache):
    finished_run(cache, range(3), count=3)
    for name, text in (("00.json", "{"), ("01.json", "[]"), ("02.json", '{"settings": 1}')):
        (cache.path / COMPILER / FINGERPRINTS / name).write_text(text)
    assert len(fingerprints(cache.path)) == 1 and cache.will_it_compile(known()).verdict == "no"


def test_it_travels_with_the_graphs(cache, tmp_path):
    finished_run(cache, range(3), count=3)
    cache.push(str(tmp_path / "shared"))
    second = CompileCache(tmp_path / "second", COMPILER)
    second.pull(str(tmp_path / "shared"))
    assert second.will_it_compile(known()).verdict == "no"


def test_it_is_left_by_the_first_process_of_a_run_that_ends_well(cache, monkeypatch, capsys):
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(cache.path))
    with pytest.raises(RuntimeError), remember(known()):
        add_compiled(cache.path, 1)
        raise RuntimeError
    assert fingerprints(cache.path) == []
    monkeypatch.setenv("RANK", "1")
    with remember(known()):
        add_compiled(cache.path, 2)
    assert fingerprints(cache.path) == []
    monkeypatch.setenv("RANK", "0")
    with remember(known()):
        add_compiled(cache.path, 3)
    assert fingerprints(cache.path)[0]["graphs"] == [graph_name(3)]
    monkeypatch.setenv("NEURON_CC_FLAGS", "--no_cache")
    with remember(known(method="sft")):
        add_compiled(cache.path, 4)
    assert len(fingerprints(cache.path)) == 1


def test_differences_see_what_is_missing():
    assert differences({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": (1, None), "b": (2, 3), "c": (None, 4)}


# ── watching ────────────────────────────────────────────────────────────────────────────────────────────────

CACHED = "2025-01-17 01:16:20.000242:  48243  INFO ||NEURON_CC_WRAPPER||: Using a cached neff at {path}/model.neff"


def test_new_graphs_are_counted_and_timed_and_reused_ones_heard(cache, capsys):
    old = [add_compiled(cache.path, number) for number in range(3)]
    add_failed(cache.path, 50)
    with cache.watch(every=0.05) as seen:
        for folder in (*old, *old):  # two processes, each of which says it
            seen.hear(CACHED.format(path=folder) + ". Exiting with a successfully compiled graph.")
        seen.hear("INFO ||NEURON_CACHE||: Compile cache path: /var/tmp/neuron-compile-cache")
        new = add_graph(cache.path, 10)
        (new / GRAPH_LOCK).touch()
        os.utime(new / GRAPH_LOCK, (time.time() - 38,) * 2)
        time.sleep(0.5)
        (new / "model.neff").write_bytes(b"compiled")
        (new / "model.done").touch()
        (new / GRAPH_LOCK).unlink()
        seen.hear(CACHED.format(path=new))  # the second process finds what the first compiled
        add_failed(cache.path, 51)
    assert (seen.compiled, seen.reused, seen.failed) == (1, 3, 1) and 38 <= seen.seconds[0] < 45
    said = capsys.readouterr().out
    assert "graph 1 compiled (38." in said and "; 3 reused" in said
    assert f"{graph_name(51)} failed to compile: see `problems()`" in said
    assert "1 new graphs compiled in 3" in str(seen) and "3 reused" in str(seen) and "1 FAILED" in str(seen)


def test_a_warm_run_shows_no_new_graph(cache):
    old = add_compiled(cache.path, 1)
    with cache.watch() as seen:
        seen.hear(CACHED.format(path=old))
    assert (seen.compiled, seen.reused, str(seen)) == (0, 1, "0 new graphs compiled in 0 s, 1 reused")


def test_ten_thousand_old_graphs_do_not_slow_a_look(tmp_path):
    for number in range(3000):
        add_compiled(tmp_path, number)
    with CompileCache(tmp_path, COMPILER).watch(every=100) as seen:
        started = time.process_time()
        for _ in range(10):
            seen.look()
        assert (time.process_time() - started) / 10 < 0.05


# ── precompiling ────────────────────────────────────────────────────────────────────────────────────────────

COMMAND = [sys.executable, "-c", "import os; print('traced with', os.environ['NEURON_EXTRACT_GRAPHS_ONLY'])"]
TOOL = """#!{python}
import os, subprocess, sys
sys.path.insert(0, {repository!r})
from helpers.neuron.compile_cache.sample import add_compiled, add_failed, add_locked
from pathlib import Path
done = subprocess.run(sys.argv[1:], env=os.environ | {{"NEURON_EXTRACT_GRAPHS_ONLY": "1"}})
cache = Path(os.environ["NEURON_COMPILE_CACHE_URL"])
{body}
sys.exit(done.returncode)
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a neuron_parallel_compile on the PATH that runs its command as AWS's does, and then what `body` says."""

    def make(body: str) -> None:
        path = tmp_path / "bin" / "neuron_parallel_compile"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TOOL.format(python=sys.executable, repository=str(REPOSITORY), body=body))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        for name in ("NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL"):
            monkeypatch.setenv(name, "")

    return make


def test_without_the_tool_it_explains_what_it_would_run(cache, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    command = on_cores(train_command("orpo", max_length=128))
    assert cache.precompile(command) is None
    said = capsys.readouterr().out
    assert "requirements-neuron.txt" in said and "neuron_parallel_compile " in said
    told = " ".join(said.replace("\\\n", "").split())
    assert "--nproc_per_node=2 scripts/train.py --method orpo --max_length 128" in told


def test_the_tool_is_run_on_the_command_and_followed(cache, tool, capsys):
    tool("for number in (1, 2): add_compiled(cache, number)\nprint('Total failed compilations: 0')")
    seen = cache.precompile(COMMAND)
    said = capsys.readouterr().out
    assert seen.compiled == 2 and cache.summary().compiled == 2
    assert "traced with 1" in said and "graph 2 compiled" in said and f"--cache_dir={cache.path}" in said


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('the tool broke')", r"ended with 1 .*:\n.*\n?.*the tool broke"),
        ("add_compiled(cache, 1); print('... Total failed compilations: 3')", "3 graphs failed to compile"),
        ("add_compiled(cache, 1); add_failed(cache, 2)", "1 graphs failed to compile"),
        ("pass", "ended well but left no graph"),
        ("add_compiled(cache, 1); add_locked(cache, 2)", "1 graphs stay locked and are not compiled"),
        ("add_compiled(cache, 1); print('items are 0, locked are 2, failed are 0')", "2 graphs stay locked"),
    ],
)
def test_failures_are_loud(cache, tool, body, says):
    tool(body)
    with pytest.raises(RuntimeError, match=says):
        cache.precompile(COMMAND)


def test_lines_come_as_they_are_said_and_the_last_ones_with_a_failure():
    code = "import sys\nfor n in range(30): print('line', n)\nsys.exit(3)"
    said = []
    with pytest.raises(RuntimeError, match=r"ended with 3 \(all it said: \S+\):\nline 15\n") as error:
        said.extend(lines_of([sys.executable, "-c", code], dict(os.environ)))
    assert str(error.value).endswith("line 29")
    log = Path(str(error.value).split(": ")[1].split(")")[0])
    assert log.read_text().splitlines() == [f"line {n}" for n in range(30)]
    log.unlink()


# ── terminal and notebook ───────────────────────────────────────────────────────────────────────────────────


def terminal(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "helpers.neuron.compile_cache", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True)


def test_the_terminal_shows_repairs_and_shares(tmp_path):
    root = str(make_sample(tmp_path / "cache"))
    here = ("--cache", root, "--compiler", COMPILER)
    status = terminal(*here, "status", "--json")
    facts = json.loads(status.stdout)
    assert status.returncode == 0 and facts["states"]["compiled"] == 9 and len(facts["graphs"]) == 8
    assert "abandoned       1" in terminal(*here, "status").stdout
    found = terminal(*here, "problems")
    assert found.returncode == 1 and found.stdout.count("→ ") == 5
    assert "nothing was changed" in terminal(*here, "repair").stdout
    assert terminal(*here, "problems").stdout == found.stdout
    assert terminal(*here, "repair", "--yes", "--kind", "foreign file").stdout.count("moved: ") == 1
    assert terminal(*here, "repair", "--yes").stdout.count("moved: ") == 3
    assert terminal(*here, "problems").stdout.count("→ ") == 1, "the older compiler's graphs may stay"
    shared = str(tmp_path / "shared")
    assert "6 sent, 0 there already" in terminal(*here, "push", shared).stdout
    second = ("--cache", str(tmp_path / "second"), "--compiler", COMPILER)
    pulled = terminal(*second, "pull", shared)
    assert pulled.returncode == 0 and "6 fetched" in pulled.stdout
    assert json.loads(terminal(*second, "status", "--json").stdout)["graphs"] == facts["graphs"]
    assert terminal(*second, "problems").stdout == "no problems\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("push", "https://example.com"), 2, "give a folder or s3://bucket/prefix"),
        (("pull", "/nowhere/at/all"), 1, "there is no such folder"),
    ],
)
def test_errors_are_one_line(arguments, code, says, tmp_path):
    done = terminal("--cache", str(tmp_path), *arguments)
    assert done.returncode == code
    assert done.stderr.startswith("compile_cache: ") and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_cache_in_s3_itself_is_one_line_too():
    done = terminal("status", NEURON_COMPILE_CACHE_URL="s3://bucket/cache", NEURON_CC_FLAGS="")
    assert done.returncode == 2 and "share it with push and pull" in done.stderr and "Traceback" not in done.stderr


def rows_shown(shown) -> int:
    return shown.table.value.count("<details>")


def test_the_browser_filters_plans_and_repairs_only_after_a_second_click(tmp_path):
    cache = CompileCache(make_sample(tmp_path / "cache"), COMPILER)
    shown = browser.Browser(cache)
    assert rows_shown(shown) == 13 and "Problems" in shown.problems.value
    shown.filter.value = "failed"
    assert rows_shown(shown) == 1 and "✗" in shown.table.value and "1 graph<" in shown.table.value
    before = sorted(tmp_path.rglob("*"))
    assert shown.confirm.layout.display == "none"
    shown.repair.click()
    assert sorted(tmp_path.rglob("*")) == before and shown.said.value.count("<li>") == 3
    assert shown.confirm.layout.display is None
    shown.refresh.click()
    assert shown.confirm.layout.display == "none", "what was planned is forgotten"
    shown.repair.click()
    shown.confirm.click()
    assert "Moved" in shown.said.value and [entry for entry in cache.entries() if entry.state == "failed"] == []
    assert rows_shown(shown) == 0


def test_the_answer_stands_between_the_buttons_and_the_table():
    shown = browser.Browser(CompileCache("/nowhere", COMPILER))
    place = shown.view.children.index(shown.said)
    assert shown.confirm in shown.view.children[place - 1].children and shown.view.children[place + 1] is shown.table


def test_a_plan_reads_the_cache_again(tmp_path):
    cache = CompileCache(make_sample(tmp_path / "cache"), COMPILER)
    shown = browser.Browser(cache)
    cache.repair(dry_run=False)  # as another cell does
    shown.repair.click()
    assert "Nothing to repair" in shown.said.value and "✗" not in shown.table.value
    assert "that Repair fixes" not in shown.problems.value and shown.confirm.layout.display == "none"


def test_after_a_repair_it_says_what_stays_and_why(tmp_path):
    shown = browser.Browser(CompileCache(make_sample(tmp_path / "cache"), COMPILER))
    assert shown.problems.value.index("that Repair fixes") < shown.problems.value.index("that Repair leaves alone")
    shown.repair.click()
    shown.confirm.click()
    assert "1 × foreign file, 1 × other compiler" in shown.said.value
    assert "1 graph is “incomplete” only because not compiled yet" in shown.said.value


def test_flags_and_reason_need_no_mouse(tmp_path):
    add_failed(tmp_path, 1)
    table = browser.html_table(CompileCache(tmp_path, COMPILER))
    assert "title=" not in table and "<summary>" in table
    inside = table[table.index("</summary>") :]
    assert "model.log and no model.neff" in inside and "--auto-cast=none" in inside


def test_it_brings_no_looks_of_its_own_and_states_differ_without_colour(tmp_path):
    shown = browser.Browser(CompileCache(make_sample(tmp_path / "cache"), COMPILER))
    shown.repair.click()
    for part in (shown.summary, shown.said, shown.table, shown.problems):
        assert part.value and "style" not in part.value and "class=" not in part.value
    assert set(browser.MARKS) == set(STATES) and len(set(browser.MARKS.values())) == len(STATES)


def test_names_in_a_cache_are_shown_as_text(tmp_path):
    (tmp_path / "<img src=x onerror=alert(1)>").mkdir()
    shown = browser.Browser(CompileCache(tmp_path, COMPILER))
    assert "<img" not in shown.problems.value and "&lt;img" in shown.problems.value


def test_a_terminal_gets_the_same_as_text(tmp_path, capsys):
    cache = CompileCache(make_sample(tmp_path / "cache"), COMPILER)
    assert browser.browse(cache) is None
    said = capsys.readouterr().out
    assert "13 graphs" in said and "- stale lock: " in said and "⚠ abandoned" in said
    assert "\n    [ERROR] [NCC_EVRF007]" in said and "\n    → repair takes the lock away" in said
    assert browser.table(cache, "abandoned").count("\n") == 2


def test_a_large_cache_is_shown_in_part(tmp_path):
    for number in range(browser.ROWS + 5):
        add_compiled(tmp_path, number, size=1)
    assert f"{browser.ROWS + 5} graphs, the newest {browser.ROWS} shown" in browser.html_table(CompileCache(tmp_path))


def test_a_long_command_is_broken_between_options_and_can_be_copied():
    command = on_cores(train_command("orpo", output_dir="a folder", model="Qwen/Qwen3-0.6B", max_length=128, bf16=True))
    said = command_text(command)
    assert "\\\n" in said and max(map(len, said.splitlines())) <= 102
    assert shlex.split(said.replace("\\\n", "")) == command
