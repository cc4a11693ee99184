"""Train on preference pairs: SFT, ORPO or DPO, on every backend. The entry for a shell, `torchrun` and SageMaker.

python scripts/train.py --method orpo --model smoke --output_dir out --max_steps 20 --max_length 128
torchrun --nproc_per_node 2 scripts/train.py --method orpo --model Qwen/Qwen3-0.6B --tensor_parallel_size 2 …

Everything of the backend's config can be set (--learning_rate, --bf16 False, …). Each step logs a line of JSON. With
NEURON_EXTRACT_GRAPHS_ONLY=1 (set by neuron_parallel_compile) a few steps are traced and nothing is saved.

--beta is 0.1 unless you set it, and means another thing in each: in ORPO the weight of the odds ratio, in DPO how dear
it is to move away from the reference, which is the model as it is before the first step.
"""

import json
import os
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from helpers.backends import NAMES, BackendError, detect, set_xla_aside

if __name__ == "__main__":
    set_xla_aside(sys.argv[1:])  # before transformers is imported, which would train on XLA's device

import torch
from peft import LoraConfig
from transformers import HfArgumentParser, PrinterCallback, TrainerCallback, set_seed

from helpers.data import (
    BUILT_IN,
    dpo_features,
    load_preferences,
    sft_features,
    shared_row_length,
    tokenize_preferences,
    truncation_report,
)
from helpers.neuron import refuse_uneven
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.fingerprint import fingerprint, remember
from helpers.neuron.compile_cache.watch import compiled_graphs
from helpers.runs import Run, here_and_now, peak_memory_bytes
from helpers.training import PROFILES, find_base_model, load_config, load_tokenizer

PRECOMPILE_STEPS = 3  # Optimum Neuron has shown all of its graphs by then
# All linear layers, spelled out: Optimum Neuron fuses some, and finds them by these names
LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class ScriptArguments:
    """What this script adds to the backend's own arguments."""

    method: str = field(metadata={"help": "which objective", "choices": ["sft", "orpo", "dpo"]})
    model: str = field(default=PROFILES["laptop"].model, metadata={"help": "a folder, a hub id, 'packaged' or 'smoke'"})
    data: str = field(
        default_factory=lambda: os.environ.get("SM_CHANNEL_TRAIN", BUILT_IN),
        metadata={
            "help": "a .jsonl or .parquet file, a folder with train.jsonl, train.parquet or their parts (train-*), "
            "or the built-in domain"
        },
    )
    pairs: int | None = field(default=None, metadata={"help": "how many training pairs; all by default"})
    lora_rank: int = field(default=0, metadata={"help": "rank of the LoRA adapter; 0 trains every weight"})
    backend: str | None = field(default=None, metadata={"help": "instead of the one found", "choices": [*NAMES]})
    will_it_compile: bool = field(default=False, metadata={"help": "only say whether the compile cache has its graphs"})


class JsonLines(TrainerCallback):
    """A line of JSON on the terminal and in the run folder for every logged step."""

    def __init__(self, stage, counts_graphs: bool):
        self.stage, self.counts_graphs = stage, counts_graphs

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.stage.go_on_from(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and "loss" in logs:
            record = {"step": state.global_step} | logs
            record |= {"graphs": compiled_graphs()} if self.counts_graphs else {}
            self.stage.log(record)
            print(json.dumps(record), flush=True)


def main(arguments: list[str]) -> int:
    try:
        script, backend, args = parse(arguments)
        (predict if script.will_it_compile else train)(script, backend, args)
    except (BackendError, ValueError, FileNotFoundError, ConnectionError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str]):
    """(ScriptArguments, Backend, the backend's config). The config's class depends on the first two."""
    if any(argument in ("-h", "--help") for argument in arguments) and "--method" not in arguments:
        HfArgumentParser(ScriptArguments).parse_args_into_dataclasses(["--help"])
    script, rest = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses(
        arguments, return_remaining_strings=True
    )
    backend = detect(script.backend)
    (args,) = HfArgumentParser(backend.config(script.method)).parse_args_into_dataclasses(
        defaults(backend, rest) + rest
    )
    return script, backend, args


def defaults(backend, told: list[str]) -> list[str]:
    """What holds unless told: on SageMaker the run folder is kept; precision as the backend found it, no checkpointing.

    TRL's own defaults differ by method.
    """
    folder = os.environ.get("SM_OUTPUT_DATA_DIR")
    found = {"output_dir": folder} if folder else {}
    if not backend.fixed_shapes:
        found |= {"gradient_checkpointing": False, "use_cpu": backend.name == "cpu"}
        if not any(argument.startswith("--fp16") for argument in told):
            found["bf16"] = backend.dtype == torch.bfloat16
    return [part for name, value in found.items() for part in (f"--{name}", str(value))]


def precision(args) -> str:
    """What the run trains in, in a word."""
    return "bf16" if args.bf16 else "fp16" if getattr(args, "fp16", False) else "float32"


def settle(args, backend, precompiling: bool):
    """The arguments that follow from the others: what is logged, and how short a precompile run is."""
    if args.max_steps == 0:
        raise ValueError("max_steps is 0: give a positive number, or leave it out to train num_train_epochs")
    if precision(args) == "fp16" and backend.name == "cpu":
        raise ValueError("fp16 needs a CUDA GPU: use --bf16 True, or neither")
    args.logging_steps, args.report_to, args.disable_tqdm = 1, [], True
    if hasattr(args, "precompute_ref_log_probs"):
        args.precompute_ref_log_probs = True  # TRL would keep a second model for DPO's reference
    if precompiling:
        args.max_steps, args.save_strategy = PRECOMPILE_STEPS, "no"
    return args


def train(script: ScriptArguments, backend, args) -> None:
    """Train, save the model, and write the run folder at `args.output_dir`."""
    precompiling = os.environ.get("NEURON_EXTRACT_GRAPHS_ONLY") == "1"
    settle(args, backend, precompiling)
    print(f"{backend}; this run in {precision(args)}", flush=True)
    if precompiling:
        print(f"Precompiling: {args.max_steps} steps are traced, nothing is saved, the loss means nothing", flush=True)
    set_seed(args.seed)
    path, reason = find_base_model(script.model)
    print(f"Base model — {reason}", flush=True)
    tokenizer = load_tokenizer(path)
    tokenized = read_pairs(script, args, tokenizer)
    print(truncation_report(tokenized), flush=True)
    with tempfile.TemporaryDirectory() as passing, graphs_remembered(script, backend, args, path):
        run = Run(
            Path(passing if precompiling else args.output_dir),
            replace(PROFILES["laptop"], name=backend.name, seed=args.seed),
        )
        trainer = make_trainer(script, backend, args, path, tokenizer, tokenized, run.stage(script.method))
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        if not precompiling:
            finish(script, backend, trainer, run)
    if backend.fixed_shapes and trainer.is_world_process_zero():
        print(f"XLA compiled {compiled_graphs()} graphs", flush=True)


def graphs_remembered(script: ScriptArguments, backend, args, path: str):
    """Where graphs are compiled, note which run made them."""
    return remember(fingerprint_of(script, args, path)) if backend.fixed_shapes else nullcontext()


def read_pairs(script: ScriptArguments, args, tokenizer):
    """The tokenised pairs. From them follows how long a shared row of fixed length is, where that isn't given."""
    pairs = load_preferences(script.data, limit=script.pairs, seed=args.seed)
    tokenized = tokenize_preferences(pairs, tokenizer, args.max_length, getattr(args, "max_prompt_length", None))
    if depends_on_data(args):
        args.row_length = shared_row_length(tokenized)
    return tokenized


def depends_on_data(args) -> bool:
    """True if the shape of a step is not settled by the arguments alone."""
    return getattr(args, "layout", "rows") == "shared" and getattr(args, "row_length", 0) is None


def fingerprint_of(script: ScriptArguments, args, path: str) -> dict:
    """What decides this run's graphs."""
    return fingerprint(script.method, load_config(path), args, script.lora_rank, LINEAR_LAYERS)


def predict(script: ScriptArguments, backend, args) -> None:
    """Say whether the same run would compile anything, and train nothing."""
    if not backend.fixed_shapes:
        print(f"no: {backend.name} compiles no graphs")
        return
    settle(args, backend, precompiling=False)
    path, _ = find_base_model(script.model)
    if depends_on_data(args):
        read_pairs(script, args, load_tokenizer(path))
    print(CompileCache().will_it_compile(fingerprint_of(script, args, path)))


def make_trainer(script, backend, args, path, tokenizer, tokenized, stage):
    """The backend's trainer for the method, on the tokenised pairs; SFT sees their chosen half."""
    if backend.fixed_shapes:
        refuse_uneven(len(tokenized), args)  # making the model compiles a graph already
    features = features_of(script.method, backend, tokenized)
    rank = script.lora_rank
    lora = (
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR_LAYERS, task_type="CAUSAL_LM") if rank else None
    )
    args.output_dir = str(stage.checkpoints)
    trainer = backend.trainer(script.method)(
        model=backend.load_model(path, args),
        args=args,
        train_dataset=features,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[JsonLines(stage, backend.fixed_shapes)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def features_of(method: str, backend, tokenized):
    """The pairs in the columns that the method's trainer reads; TRL's trainers have their own."""
    if method == "sft":
        return sft_features(tokenized)
    return dpo_features(tokenized) if method == "dpo" and backend.name != "neuron" else tokenized


def finish(script, backend, trainer, run: Run) -> None:
    """Save the model where SageMaker looks for it (SM_MODEL_DIR), else in the run folder; note what was done."""
    if not trainer.state.global_step:
        raise ValueError("no step was taken: there are fewer pairs than a batch holds, or resuming began at the end")
    stage = run.stage(script.method)
    folder = backend.save_model(trainer, os.environ.get("SM_MODEL_DIR", str(stage.model_path)))
    if trainer.is_world_process_zero():
        log, steps = stage.read_log(), trainer.state.global_step
        summary = {"method": script.method, "steps": steps, "seed": trainer.args.seed, "first_loss": log[0]["loss"]}
        summary |= {"last_loss": log[-1]["loss"], "peak_memory_bytes": peak_memory_bytes()}
        run.write_results(**here_and_now())  # an earlier run may have left its own
        stage.finish(summary)
        change = f"loss {log[0]['loss']:.4f} → {log[-1]['loss']:.4f}"
        print(f"Trained {steps} steps, {change}; the model is in {folder.name}/")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
