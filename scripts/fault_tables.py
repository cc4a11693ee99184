"""What Optimum Neuron does without each of the workshop's corrections: the table of docs/optimum_neuron_changes.md."""

from helpers.evaluation.tables import markdown_table
from helpers.runs.machine import machine_text
from helpers.runs.recorded import read_recorded

COMMAND = ".venv-rehearsal/bin/python -m tests.rehearsal.faults"
LEFT_OUT = {
    "partial sums": "the sum of partial gradients",
    "ZeRO-1": "the changes to ZeRO-1",
    "models refused": "the refusal of the model",
    "lengths refused": "the refusal of the length",
}
COMPARED = {
    "copies": "between the two ranks",
    "gradients": "first gradient, from one process",
    "first loss": "from one process",
    "losses": "from one process",
    "saved": "in transformers, from what the sharded model says",
    "error": "error",
}
ERROR = 80  # characters of an error that are shown


def faults_table() -> str:
    """Markdown: each correction left out, what then differs, and by how much."""
    (record,) = read_recorded("faults.json", "faults", COMMAND)
    rows = [
        [LEFT_OUT[row["without"]], f"{row['about']}: {COMPARED[row['compared']]}", cell(row["shown"])]
        for row in record["faults"]
    ]
    table = markdown_table(["left out", "what is compared", "difference, relative"], rows)
    about = f"`{COMMAND}`: two processes, at most {record['steps']} steps, two-layer models of random weights"
    where = f"{machine_text(record['machine'])} · {record['date'][:10]}"
    return f"{table}\n\n*{about}; the largest difference. {where}.*"


def cell(value: float | str) -> str:
    """A difference as a percentage, or an error's first words."""
    if isinstance(value, float):
        return f"{100 * value:.2g}%"
    return f"`{value[:ERROR]}`" if value else "none"
