"""Make docs/imgs/ and the README's results table from docs/results/ and from the objective. `make figures`."""

import os
import re

import matplotlib

matplotlib.use("Agg")

from benchmarks import results as bench_results
from helpers.files import REPOSITORY
from helpers.runs import recorded as results
from helpers.show import plots
from helpers.techniques import figures
from helpers.techniques import results as comparison

IMAGES = REPOSITORY / "docs" / "imgs"


def save(figure, name: str) -> None:
    """Write a PNG without the date and version that would make every run differ; replace the old one whole."""
    target = IMAGES / name
    temporary = target.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120, metadata={"Software": None})
    os.replace(temporary, target)
    plots.plt.close(figure)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    runs = results.recorded("laptop")
    save(plots.stamp(plots.plot_curves(runs), results.provenance(runs)), "log_probs_while_training.png")
    save(plots.stamp(plots.plot_seeds(runs), results.provenance(runs)), "sft_against_orpo.png")
    save(plots.plot_techniques(), "techniques.png")
    save(plots.plot_loss(beta=1.0), "orpo_loss.png")
    save(plots.plot_ratios(), "ratio_distributions.png")
    bench = bench_results.recorded_bench()
    save(plots.stamp(plots.plot_bench(bench), bench_results.origin(bench)), "bench.png")
    compare_techniques()
    readme = REPOSITORY / "README.md"
    text = readme.read_text(encoding="utf-8")
    tables = {
        "results": results.table(runs),
        "bench": bench_results.table(bench),
        "techniques": comparison.readme_text(),
    }
    for name, table in tables.items():
        text = with_table(text, name, table)
    readme.write_text(text, encoding="utf-8")
    print(f"{len(list(IMAGES.glob('*.png')))} figures in docs/imgs/, and the README's tables from docs/results/")


def compare_techniques() -> None:
    """SFT, DPO, RLHF and ORPO: memory, what was paid for what was bought, and betas where they are recorded."""
    records, memory = comparison.recorded(), comparison.recorded_memory()
    save(plots.stamp(figures.plot_memory(memory), comparison.memory_origin(memory)), "techniques_memory.png")
    save(plots.stamp(figures.plot_trade_off(records), comparison.provenance(records)), "techniques_trade_off.png")
    if all("betas" in record for record in records):
        save(plots.stamp(figures.plot_betas(records), comparison.provenance(records)), "techniques_betas.png")


def with_table(readme: str, name: str, table: str) -> str:
    """The README with the text between its markers called `name` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{table}\n{found[2]}", readme, flags=re.S)


if __name__ == "__main__":
    main()
