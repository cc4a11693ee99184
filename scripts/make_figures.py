"""Make docs/imgs/ and the tables of the documentation from docs/results/ and from the code. `make figures`."""

import os
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from benchmarks import results as bench_results
from helpers.files import REPOSITORY, write_text
from helpers.runs import recorded as results
from helpers.show import plots
from helpers.techniques import figures
from helpers.techniques import results as comparison
from scripts import rooms

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
    tables = {
        "README.md": {"summary": results.summary(runs)},
        "CONTRIBUTING.md": {"rooms": rooms.picture()},
        "docs/results.md": {
            "results": results.table(runs),
            "bench": bench_results.table(bench),
            "techniques": comparison.readme_text(),
        },
    }
    for document, texts in tables.items():
        fill(REPOSITORY / document, texts)
    print(f"{len(list(IMAGES.glob('*.png')))} figures in docs/imgs/, and the tables of {', '.join(tables)}")


def compare_techniques() -> None:
    """SFT, DPO, RLHF and ORPO: memory, what was paid for what was bought, and betas where they are recorded."""
    records, memory = comparison.recorded(), comparison.recorded_memory()
    save(plots.stamp(figures.plot_memory(memory), comparison.memory_origin(memory)), "techniques_memory.png")
    save(plots.stamp(figures.plot_trade_off(records), comparison.provenance(records)), "techniques_trade_off.png")
    if all("betas" in record for record in records):
        save(plots.stamp(figures.plot_betas(records), comparison.provenance(records)), "techniques_betas.png")


def fill(document: Path, texts: dict[str, str]) -> None:
    """Replace what stands between a document's markers `<!-- name -->` and `<!-- /name -->`, for every name."""
    page = document.read_text(encoding="utf-8")
    for name, text in texts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(pattern, lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page, flags=re.S)
    write_text(document, page)


if __name__ == "__main__":
    main()
