"""What people see: figures, live curves, sliders, tables of answers, the report of a run.

style             one style for all figures            run_plots       curves and results of runs
objective_plots   the formula as pictures              bench_plot      a recorded benchmark
notebook          figures and answers in a notebook    widgets         live monitor of a training
explorer          sliders over the objective           cache_browser   the Neuron compile cache
report            report.html of a run                 data_plots      what a data set is like
speaker_notes     what to say about a cell
report_page       the template of its page             report_words    what it says of a run in words
plan_plots        plans of trainings as figures        planner_view     sliders over a plan
stop_button       ends a training early               pages           what the views that turn pages share
speakers          a run's models, to be asked         answers_view    answers side by side, and a box to ask
data_view         pairs, token by token               recorded_training   a training drawn again
monitor_panels    what is drawn of a training     live_figure     the figure of one while it moves
share             the time that watching may take
chat_view         served models side by side       safe_html       what a cell showed, without what could run
lesson_plots      the style control, the gallery of failures

It reads runs and results and changes neither. Techniques, notebooks and scripts may import it.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "objective_plots": "plot_beta plot_log_odds plot_loss plot_ratios",
        "data_plots": "plot_lengths plot_validation",
        "lesson_plots": "plot_failures plot_style_control",
        "run_plots": "plot_curves plot_monitor plot_results plot_token_logps",
        "bench_plot": "plot_bench",
        "style": "stamp",
        "notebook": "draw_monitor run_stamp show show_answers show_table",
        "widgets": "LiveMonitor",
        "plan_plots": "plot_nodes plot_plans",
        "planner_view": "plan_explorer",
        "explorer": "odds_ratio_explorer",
        "report": "side_by_side write_report",
        "cache_browser": "browse",
        "speakers": "speakers_of",
        "answers_view": "ask_models compare_answers",
        "data_view": "browse_pairs",
        "recorded_training": "replay",
        "chat_view": "show_chat",
        "speaker_notes": "notes_page",
    },
)
