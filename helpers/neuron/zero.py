"""Two things that NeuronTrainer 0.4.5 gets wrong with ZeRO-1, its default: the schedule and float32.

Seen in the rehearsal, which runs torch-xla's ZeRO-1, the one that Trainium's extends: the shards' optimizer kept the
first learning rate to the end, and without bf16 it kept weights and moments in bf16
(`NeuronAccelerator._prepare_optimizer_for_zero_1`).
"""

from transformers import TrainerCallback


def fix_zero_1(trainer) -> list[str]:
    """Make a NeuronTrainer follow its learning-rate schedule, and train float32 models in float32, with ZeRO-1.

    Returns what was changed, in words.
    """
    if not trainer.args.zero_1:
        return []
    trainer.add_callback(FollowSchedule())
    if trainer.args.bf16:
        return ["ZeRO-1 follows the schedule"]
    trainer.mixed_precision_config.optimizer_use_master_weights = True
    return ["ZeRO-1 follows the schedule and keeps float32"]


class FollowSchedule(TrainerCallback):
    """The schedule is made for the optimizer that ZeRO-1 then replaces: hand it the one that steps."""

    def on_train_begin(self, args, state, control, lr_scheduler=None, optimizer=None, **kwargs):
        lr_scheduler.optimizer = optimizer
