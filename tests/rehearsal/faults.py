"""What Optimum Neuron 0.4.5 does without the workshop's corrections: seen with two processes, and recorded.

`python -m tests.rehearsal.faults`, in the rehearsal's environment, trains each case and writes the results to
docs/results/faults.json, from which `make figures` makes a table of docs/optimum_neuron_changes.md.
"""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from helpers.files import REPOSITORY, write_json
from helpers.runs.machine import machine_info
from tests.rehearsal.one_process import differences
from tests.rehearsal.several import LENGTH, STEPS, VOCABULARY, train_over
from tests.rehearsal.tiny import save_tiny_model

RECORDED = REPOSITORY / "docs" / "results" / "faults.json"


@dataclass(frozen=True)
class Fault:
    """A fault: the correction (of `several.train_without`) that hides it, a case that has it, and what shows it.

    `compared` is a key of `differences`, of which the case has at least `least` without the correction; or "error",
    whose text then has `says` in it.
    """

    without: str
    about: str
    case: dict
    compared: str
    least: float = 0.0
    says: str = ""


FAULTS = (
    Fault("partial sums", "LoRA, copies of a parameter", {"lora": 8}, "copies", 0.01),
    Fault("partial sums", "LoRA, loss of the saved model", {"lora": 8}, "saved", 0.001),
    Fault("partial sums", "norms in bf16 with ZeRO-1", {"dtype": "bfloat16"}, "copies", 0.001),
    Fault(
        "partial sums",
        "Qwen3, `q_norm` and `k_norm`",
        {"architecture": "qwen3", "disable_sequence_parallel": True},
        "gradients",
        0.3,
    ),
    Fault("ZeRO-1", "losses of ten steps", {}, "losses", 0.005),
    Fault(
        "models refused",
        "Granite with a tied head, first loss",
        {"architecture": "granite", "method": "sft"},
        "first loss",
        0.05,
    ),
    Fault(
        "lengths refused",
        "a length that two ranks can't split",
        {"max_length": LENGTH + 1, "max_steps": 1},
        "error",
        says="not divisible",
    ),
)


def models(folder: Path) -> dict[str, str]:
    """{architecture: the path of a tiny model}, of all that the faults need."""
    names = sorted({fault.case.get("architecture", "llama") for fault in FAULTS})
    return {name: save_tiny_model(folder / name, name, vocabulary=VOCABULARY) for name in names}


def case_of(fault: Fault, paths: dict[str, str]) -> dict:
    """The case that shows a fault, without its correction."""
    settings = {"architecture": "llama"} | fault.case
    name = "-".join(str(value) for value in (*settings.values(), "without", fault.without)).replace(" ", "-")
    return {"path": paths[settings.pop("architecture")], "name": name, "without": fault.without} | settings


def figure(fault: Fault, case: dict, folder: Path, ranks: list[dict]) -> float | str:
    """What a case shows of a fault: the difference that counts, or the error of the first rank."""
    if fault.compared == "error":
        return ranks[0].get("error", "")
    return differences(case, folder, ranks, len(ranks))[fault.compared][0]


def main() -> None:
    """Train every case without its correction, and record what each shows."""
    with tempfile.TemporaryDirectory() as folder:
        paths = models(Path(folder))
        cases = {case["name"]: case for case in (case_of(fault, paths) for fault in FAULTS)}
        trained = Path(folder) / "trained"
        record(trained, paths, train_over(trained, list(cases.values())))


def record(folder: Path, paths: dict[str, str], measured: dict[str, list[dict]]) -> None:
    """Write docs/results/faults.json of what was measured without corrections."""
    rows = []
    for fault in FAULTS:
        case = case_of(fault, paths)
        shown = figure(fault, case, folder, measured[case["name"]])
        rows.append({name: getattr(fault, name) for name in ("without", "about", "compared")} | {"shown": shown})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(RECORDED, {"date": date, "machine": machine_info(), "steps": STEPS, "faults": rows})


if __name__ == "__main__":
    main()
