"""In which way answers are wrong: by the rule of the checker, or by the kind that pairs name."""

import numpy as np

from helpers.data.house_style import RULES
from helpers.evaluation.heldout import COMPARED, KIND, load_heldout, require_measured_on
from helpers.evaluation.methods import look
from helpers.evaluation.tables import markdown_table


def accuracy_by_kind(run, heldout, methods=COMPARED) -> dict[str, dict]:
    """Preference accuracy of each method for each kind of rejected answer, and how many pairs the kind has.

    Raises ValueError for pairs without a column `rejected_kind`, and for a method measured on other pairs.
    """
    if KIND not in heldout.column_names:
        raise ValueError(
            f"the held-out pairs have no column {KIND!r}: add one that names the kind of each wrong answer"
        )
    require_measured_on(run, methods, heldout)
    kinds = np.array(heldout[KIND])
    wins = {method: load_heldout(run, method)[0].wins for method in methods}
    return {
        str(kind): {"n": int((kinds == kind).sum())}
        | {method: float(won[kinds == kind].mean()) for method, won in wins.items()}
        for kind in np.unique(kinds)
    }


def kinds_table(run, methods: dict[str, dict], heldout) -> str:
    """Aligned Markdown: the share of greedy answers that break each rule of the checker, or where pairs name the kind
    of their rejected answer, the preference accuracy by kind. Empty for pairs with neither."""
    if all("rules_broken" in result for result in methods.values()):
        head, rows = "answers that break the rule", {rule: {} for rule in RULES}
        for name, result in methods.items():
            for rule, share in result["rules_broken"].items():
                rows[rule][name] = share
    elif KIND in heldout.column_names:
        head, rows = "preference accuracy", accuracy_by_kind(run, heldout, tuple(methods))
    else:
        return ""
    cells = [[kind, *(f"{row[name]:.0%}" for name in methods)] for kind, row in rows.items()]
    return markdown_table([head, *(look(name).label for name in methods)], cells, aligned=True)
