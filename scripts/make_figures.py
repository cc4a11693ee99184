"""Make docs/imgs/ and the README's results table from docs/results/ and from the objective. `make figures`."""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks import results as bench_results
from helpers.evaluation.tables import runs_table
from helpers.files import REPOSITORY
from helpers.runs.recorded import provenance_of_runs, recorded_runs
from helpers.show.bench_plot import plot_bench
from helpers.show.objective_plots import plot_loss, plot_ratios
from helpers.show.run_plots import plot_curves, plot_results
from helpers.show.style import stamp
from helpers.techniques import figures, results, tables

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
    runs = recorded_runs("laptop")
    save(stamp(plot_curves(runs), provenance_of_runs(runs)), "log_probs_while_training.png")
    against = plot_results(*(run["methods"] for run in runs), baselines=runs[0].get("baselines"))
    save(stamp(against, provenance_of_runs(runs)), "sft_against_orpo.png")
    save(plot_loss(beta=1.0), "orpo_loss.png")
    save(plot_ratios(), "ratio_distributions.png")
    bench = bench_results.recorded_bench()
    save(stamp(plot_bench(bench), bench_results.origin(bench)), "bench.png")
    compare_techniques()
    readme = REPOSITORY / "README.md"
    text = readme.read_text(encoding="utf-8")
    made = {"results": runs_table(runs), "bench": bench_results.table(bench), "techniques": tables.readme_text()}
    for name, table in made.items():
        text = with_table(text, name, table)
    readme.write_text(text, encoding="utf-8")
    print(f"{len(list(IMAGES.glob('*.png')))} figures in docs/imgs/, and the README's tables from docs/results/")


def compare_techniques() -> None:
    """SFT, DPO, RLHF and ORPO: models, memory, what was paid for what, and betas where they are recorded."""
    records, memory = results.recorded(), results.recorded_memory()
    save(figures.plot_techniques(), "techniques.png")
    save(stamp(figures.plot_memory(memory), results.memory_origin(memory)), "techniques_memory.png")
    save(stamp(figures.plot_trade_off(records), results.provenance_of(records)), "techniques_trade_off.png")
    if all("betas" in record for record in records):
        save(stamp(figures.plot_betas(records), results.provenance_of(records)), "techniques_betas.png")


def with_table(readme: str, name: str, table: str) -> str:
    """The README with the text between its markers called `name` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{table}\n{found[2]}", readme, flags=re.S)


if __name__ == "__main__":
    main()
