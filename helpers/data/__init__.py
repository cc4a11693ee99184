"""Preference pairs: the built-in domains, a user's own files, validation, chat template, tokens, batches.

Pairs flow one way: load (locate → read → columns → pairs → reading) → validate → tokenize → collate. Runs, training,
evaluation and everything above may import this room; it imports `files` and `objective` only.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "load": "BUILT_IN DOMAINS documentation_drafts load_preferences",
        "validate": "validate_preferences",
        "template": "render",
        "tokenize": "tokenize_preferences truncation_report",
        "collate": "PreferenceCollator shared_row_length",
        "synthetic": "random_pairs",
        "house_style": "check_answer edit_request",
        "trl_format": "as_text sft_features",
    },
)
