"""What the report says of a run in words: its question, its result in one sentence, and how to repeat it."""

import shlex
from pathlib import PurePath

from helpers.evaluation.methods import look
from helpers.evaluation.tables import settings_notes
from helpers.runs.folder import BUILT_IN
from helpers.runs.machine import machine_text
from helpers.training.profiles import PROFILES

MEASURES = {  # the first that a run compared is its result: how it is told, and of how many
    "answers_right": ("the checker accepts {orpo} of ORPO's {n} held-out answers and {sft} of SFT's", "answers_n"),
    "preference_accuracy": (
        "ORPO finds the chosen answer likelier than the rejected one in {orpo} of {n} held-out pairs, SFT in {sft}",
        "n",
    ),
}


def question_text(results: dict, methods: dict) -> str:
    """What the run asks, with the conditions under which it is a fair question."""
    apart = " from services that neither was trained on" if "heldout_services" in results.get("data", {}) else ""
    asked = f"Does ORPO, which also sees rejected answers, do better than SFT on held-out prompts{apart}?"
    if not {"sft", "orpo"} <= methods.keys():
        return f"{asked} So far the run has measured {', '.join(look(name).label for name in methods)}."
    pair = {name: methods[name] for name in ("sft", "orpo")}
    alike = "Both train on the same pairs, from the same base model, for the same number of steps."
    noted = all("settings" in result for result in pair.values())
    return " ".join([asked, *(settings_notes(pair) or [alike] * noted)])


def result_text(results: dict) -> str:
    """The paired difference of ORPO and SFT with its interval; no direction where the interval contains zero."""
    gain, methods = results.get("orpo_minus_sft", {}), results.get("methods", {})
    key = next((key for key in MEASURES if key in gain), None)
    if key is None or not all(key in methods.get(name, {}) for name in ("sft", "orpo")):
        return "This run has not compared ORPO with SFT, so it has no result yet."
    (told, of), shares = MEASURES[key], {name: f"{methods[name][key]:.1%}" for name in ("sft", "orpo")}
    told = told.format(n=methods["orpo"][of], **shares)
    value, (low, high) = (100 * gain[key], (100 * bound for bound in gain[f"{key}_ci95"]))
    interval = f"paired, 95% interval {low:+.1f} to {high:+.1f}"
    if low <= 0 <= high:
        told = f"{told}; the difference of {value:+.1f} points may be chance ({interval}, which contains zero)."
    else:
        told = f"{told}: {value:+.1f} points, ORPO is {'better' if value > 0 else 'worse'} ({interval})."
    return told[0].upper() + told[1:]


def command_text(results: dict, state: dict) -> str:
    """The command that does this run again. Of files it has the names only: folders differ between machines."""
    profile, asked = results["profile"], {}
    model, source = results.get("model", {}).get("name"), results.get("data", {}).get("load_from", BUILT_IN)
    precision = (state.get("key") or [None] * 3)[2]  # as `make run` keeps it: profile, notebooks, precision, source
    usual = PROFILES[profile].model if profile in PROFILES else None  # a job names its backend in its place
    if model and model != usual:
        asked["WORKSHOP_MODEL"] = without_folder(model)
    if precision:
        asked["WORKSHOP_PRECISION"] = precision
    asked |= {"make run": None, "PROFILE": profile, "SEED": results["seed"]}
    if source != BUILT_IN:
        asked["SOURCE"] = without_folder(source)
    if done := state.get("done"):
        asked["NOTEBOOKS"] = " ".join(name[:2] for name in sorted(done))
    return " ".join(name if value is None else f"{name}={shlex.quote(str(value))}" for name, value in asked.items())


def without_folder(place: str) -> str:
    """The name of a file or folder; a hub id or a URL as it is."""
    return PurePath(place).name if PurePath(place).is_absolute() else place


def facts(results: dict) -> dict[str, str]:
    """What was run, on what: {label: value}."""
    machine, run, data, model = (results.get(part, {}) for part in ("machine", "run", "data", "model"))
    found = {"date": f"{results['date'][:16].replace('T', ' ')} UTC"}
    found["machine"] = (
        f"{machine_text(machine)}, {machine['memory'] / 2**30:.0f} GiB, {machine['system']}, Python {machine['python']}"
    )
    if run:
        found["peak memory"] = f"{run['peak_memory_bytes'] / 2**30:.1f} GiB"
    if model:
        found["base model"] = f"{without_folder(model['name'])}, {model['parameters'] / 1e6:.0f} million parameters"
    if data:
        found["data"] = without_folder(data.get("load_from") or data["source"])  # `make record` keeps no place
        if "train_pairs" in data:  # a fetched run knows the place only, until notebook 01 counts the pairs
            found["data"] += f": {data['train_pairs']} training pairs, {data['heldout_pairs']} held out"
    found["versions"] = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    return found
