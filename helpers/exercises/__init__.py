"""Checks of the exercises in notebooks/exercises/: each says what is right, or what is wrong and a hint.

check     how an answer is told            lesson      notebooks 01 to 04
beyond    notebooks 05 and 07              machines    notebooks 00, 06, 08 and 09

It reads data, objective and evaluation. Notebooks and scripts may import it.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "check": "UNSOLVED",
        "lesson": "check_beta check_log_odds check_negated check_odds_ratio check_pair check_paired check_perplexity "
        "check_prompts_needed check_scored check_seeds_apart check_shortest_row check_unusable six_rows",
        "machines": "check_compiles check_longest_answer check_lora_bytes check_most_cost check_no_token check_stale "
        "check_state check_steps_lost check_stop_token check_stream check_training_bytes check_weights streamed",
        "beyond": "check_advantages check_dpo_beta check_first_loss check_max_length check_padded check_shapes",
    },
)
