"""The vocabulary spread over two real processes (gloo) gives the log-probs, loss and gradients of one."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from helpers.files import REPOSITORY
from tests.rehearsal.launch import ONE_PROCESS, free_port

ROWS, LENGTH, HIDDEN, VOCABULARY, BETA = 6, 11, 8, 64, 0.7


def made_up_batch() -> dict[str, torch.Tensor]:
    """Hidden states, head, tokens and labels with responses of different lengths; the same in each process."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, LENGTH, HIDDEN, generator=generator)
    head = torch.randn(VOCABULARY, HIDDEN, generator=generator)
    input_ids = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    labels = input_ids.clone()
    for row in range(ROWS):
        labels[row, : 2 + row % 3] = -100  # the prompt
        labels[row, 6 + row :] = -100  # padding
    return {"hidden": hidden, "head": head, "input_ids": input_ids, "labels": labels}


class Head(torch.nn.Module):
    """The last layer of a model, or one rank's rows of it."""

    def __init__(self, hidden, head):
        super().__init__()
        self.hidden, self.head = torch.nn.Parameter(hidden), torch.nn.Parameter(head)

    def forward(self, input_ids):
        return type("Output", (), {"logits": self.hidden @ self.head.T})


def measure(model, batch) -> dict[str, torch.Tensor]:
    """Log-probs, loss and gradients through the trainer's own functions."""
    from helpers.neuron.logprobs import response_logps
    from helpers.objective.odds_ratio import orpo_loss

    logps = response_logps(model, batch["input_ids"], batch["labels"])
    chosen, rejected = logps.chunk(2)
    loss = orpo_loss(-chosen, chosen, rejected, BETA)
    loss.backward()
    gradients = {"hidden": model.hidden.grad, "head": model.head.grad}
    return {"logps": logps.detach(), "loss": loss.detach()} | gradients


def rank_main(out: str) -> None:
    """One of the two processes."""
    from tests.rehearsal import launch, on_cpu

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    launch.prepare()
    from neuronx_distributed.parallel_layers.parallel_state import initialize_model_parallel

    on_cpu.join()
    initialize_model_parallel(tensor_model_parallel_size=world)
    batch = made_up_batch()
    torch.save(measure(Head(batch["hidden"], batch["head"].chunk(world)[rank]), batch), f"{out}.{rank}")


def test_two_processes_agree_with_one(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "PJRT_DEVICE": "CPU"}
    environment["MASTER_PORT"] = free_port()
    out = tmp_path / "measured"
    command = [sys.executable, "-m", "tests.rehearsal.test_tensor_parallel", str(out)]
    ranks = [subprocess.Popen(command, cwd=REPOSITORY, env=environment | {"RANK": str(rank)}) for rank in (0, 1)]
    assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    shards = [torch.load(Path(f"{out}.{rank}")) for rank in (0, 1)]
    from helpers.neuron import NeuronORPOConfig

    NeuronORPOConfig(output_dir=str(tmp_path))  # with it, this process is a group of one
    batch = made_up_batch()
    whole = measure(Head(batch["hidden"], batch["head"]), batch)
    for shard in shards:
        torch.testing.assert_close(shard["logps"], whole["logps"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(shard["loss"], whole["loss"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.cat([shard["head"] for shard in shards]), whole["head"], rtol=1e-5, atol=1e-6)
    # Each rank knows its part of the vocabulary only: the parts of the gradient below the head add up.
    torch.testing.assert_close(sum(shard["hidden"] for shard in shards), whole["hidden"], rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    rank_main(sys.argv[1])
