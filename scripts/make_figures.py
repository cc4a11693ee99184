"""Make docs/imgs/, the tables of the documentation and the notebooks' times from docs/results/ and from the code.

`make figures` calls it.
"""

import os

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks import data_scale, step_profile
from benchmarks import results as bench_results
from benchmarks.bars import bars_table
from helpers.evaluation import comparison_table, runs_summary, runs_table
from helpers.files import REPOSITORY
from helpers.runs import provenance_of_runs, read_recorded, recorded_runs
from helpers.sagemaker import cost_table, spaces_table
from helpers.show import (
    plot_bench,
    plot_curves,
    plot_failures,
    plot_loss,
    plot_nodes,
    plot_plans,
    plot_ratios,
    plot_results,
    plot_style_control,
    stamp,
)
from helpers.techniques import figures, results, tables
from scripts import (
    failures,
    fault_tables,
    lesson_parts,
    lesson_tables,
    models,
    notebook_times,
    plan_tables,
    rooms,
    trl_arguments,
)
from scripts.pages import fill

IMAGES = REPOSITORY / "docs" / "imgs"


def save(figure, name: str) -> None:
    """Write a PNG without the date and version that would make every run differ; replace the old one whole."""
    target = IMAGES / name
    temporary = target.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120, metadata={"Software": None})
    os.replace(temporary, target)
    plt.close(figure)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    runs, controls = recorded_runs("laptop"), lesson_tables.recorded_controls()
    save(stamp(plot_curves(runs), provenance_of_runs(runs)), "log_probs_while_training.png")
    against = plot_results(*(run["methods"] for run in runs), baselines=runs[0].get("baselines"))
    save(stamp(against, provenance_of_runs(runs)), "sft_against_orpo.png")
    save(plot_loss(beta=1.0), "orpo_loss.png")
    save(plot_ratios(), "ratio_distributions.png")
    bench = bench_results.recorded_bench()
    save(stamp(plot_bench(bench), bench_results.origin(bench)), "bench.png")
    compare_techniques()
    draw_lesson(controls)
    save(plot_plans(plan_tables.example_plans()), "plan_memory.png")
    save(plot_nodes(plan_tables.example_scaling()), "plan_nodes.png")
    support = read_recorded("laptop-support-seed0.json", "run on the support domain", "make run SOURCE=support")
    made = {
        "README.md": {
            "summary": runs_summary(runs),
            "examples": lesson_tables.examples_table(runs[0]),
        },
        "CONTRIBUTING.md": {"rooms": rooms.picture()},
        "docs/trl_arguments.md": {"arguments": trl_arguments.table()},
        "docs/classroom.md": {"costs": cost_table()},
        "docs/studio.md": {"prices": spaces_table()},
        "docs/models.md": {models.section(): models.table()},
        "docs/planner.md": plan_tables.tables(),
        "docs/optimum_neuron_changes.md": {"faults": fault_tables.faults_table()},
        "docs/own_data.md": {
            "support": own_domain(*support),
            "pairs": lesson_tables.pairs_table(results.recorded()),
            "scale": data_scale.scale_table(data_scale.recorded_scale()),
        },
        "docs/results.md": {
            "results": runs_table(runs),
            **lesson_parts.results_parts(runs, controls),
            "bench": bench_results.table(bench),
            "kinds": bench_results.kinds_table(bench_results.recorded_kinds()),
            "bars": bars_table(bench, bench_results.recorded_kinds()),
            "profile": step_profile.profile_table(step_profile.recorded_profile()),
            "techniques": tables.readme_text(),
        },
    }
    for document, texts in made.items():
        fill(REPOSITORY / document, texts)
    notebook_times.fill_times(runs)
    print(f"{len(list(IMAGES.glob('*.png')))} figures in docs/imgs/, and the tables of {', '.join(made)}")


def own_domain(run: dict) -> str:
    """What one recorded run on other pairs than the lesson's reached, and where it came from."""
    pairs = f"{run['data']['train_pairs']} training pairs, {run['data']['heldout_pairs']} held out"
    table = comparison_table(run["methods"], run["baselines"])
    return f"{table}\n\n*{provenance_of_runs([run])}; {pairs}.*"


def draw_lesson(controls: list[dict]) -> None:
    """The style control and the gallery of failures, where they are recorded."""
    if record := lesson_parts.style_record(controls):
        figure = plot_style_control(lesson_parts.style_curves(record))
        save(stamp(figure, lesson_parts.style_about(record)), "style_control.png")
    if record := failures.gallery_record(controls):
        figure = plot_failures(*failures.curves_of(record))
        save(stamp(figure, failures.about(record, lesson_tables.COMMAND)), "failures.png")


def compare_techniques() -> None:
    """SFT, DPO, RLHF and ORPO: models, memory, what was paid for what, and betas where they are recorded."""
    records, memory = results.recorded(), results.recorded_memory()
    save(figures.plot_techniques(), "techniques.png")
    save(stamp(figures.plot_memory(memory), results.memory_origin(memory)), "techniques_memory.png")
    save(stamp(figures.plot_trade_off(records), results.provenance_of(records)), "techniques_trade_off.png")
    if all("betas" in record for record in records):
        save(stamp(figures.plot_betas(records), results.provenance_of(records)), "techniques_betas.png")


if __name__ == "__main__":
    main()
