"""For eyes: figures, widgets, what a notebook displays, the report of a run, the compile cache in a notebook.

It reads runs and results and changes neither. Techniques, notebooks and scripts may import it.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "plots": "NAME plot_beta plot_lengths plot_log_odds plot_loss plot_ratios plot_results plot_techniques stamp",
        "notebook": "draw_monitor run_stamp show show_answers",
        "widgets": "LiveMonitor odds_ratio_explorer",
        "report": "side_by_side write_report",
        "cache_browser": "browse",
    },
)
