"""What people see: figures, live curves, sliders, tables of answers, the report. All of it reads run folders only.

style            one style for all figures            run_plots       curves and results of runs
objective_plots  the formula as pictures              bench_plot      a recorded benchmark
notebook         figures and answers in a notebook    widgets         live monitor, sliders
report           report.html of a run                 cache_browser   the Neuron compile cache
"""

from helpers.show.notebook import draw_monitor, run_stamp, show, show_answers
from helpers.show.objective_plots import plot_beta, plot_log_odds, plot_loss, plot_ratios
from helpers.show.run_plots import plot_lengths, plot_monitor, plot_results
from helpers.show.style import stamp
from helpers.show.widgets import LiveMonitor, odds_ratio_explorer

__all__ = [
    "LiveMonitor",
    "draw_monitor",
    "odds_ratio_explorer",
    "plot_beta",
    "plot_lengths",
    "plot_log_odds",
    "plot_loss",
    "plot_monitor",
    "plot_ratios",
    "plot_results",
    "run_stamp",
    "show",
    "show_answers",
    "stamp",
]
