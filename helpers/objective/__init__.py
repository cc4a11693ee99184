"""The maths of the lesson, in pure PyTorch: the odds-ratio loss, and log-probs of chosen and rejected answers.

It knows no tokenizer, no trainer and no file. Every room above may import it; it imports no other room.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "odds_ratio": "log_odds odds_ratio_loss orpo_loss",
        "logprobs": "mean_logps pair_logps token_logps",
    },
)
