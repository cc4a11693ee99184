"""Two things that NeuronTrainer 0.4.5 gets wrong with ZeRO-1, its default: the schedule and float32.

Seen in the rehearsal, which runs torch-xla's ZeRO-1, the one that Trainium's extends: the shards' optimizer kept the
first learning rate to the end, and without bf16 it kept weights and moments in bf16
(`NeuronAccelerator._prepare_optimizer_for_zero_1`).
"""

from transformers import TrainerCallback


def mend_zero_1(trainer) -> None:
    """Make a NeuronTrainer with ZeRO-1 follow its learning-rate schedule, and train float32 models in float32."""
    trainer.add_callback(FollowSchedule())
    if trainer.args.zero_1 and not trainer.args.bf16:
        trainer.mixed_precision_config.optimizer_use_master_weights = True


class FollowSchedule(TrainerCallback):
    """The schedule is made for the optimizer that ZeRO-1 then replaces: hand it the one that steps."""

    def on_train_begin(self, args, state, control, lr_scheduler=None, optimizer=None, **kwargs):
        lr_scheduler.optimizer = optimizer
