"""Train on preference pairs: SFT, ORPO or DPO, on every backend. The entry for a shell, `torchrun` and SageMaker.

python scripts/train.py --method orpo --model smoke --output_dir out --max_steps 20 --max_length 128
torchrun --nproc_per_node 2 scripts/train.py --method orpo --model Qwen/Qwen3-0.6B --tensor_parallel_size 2 …

Everything of the backend's config can be set (--learning_rate, --bf16 False, …). Each step logs a line of JSON. A
stopped run goes on with --resume_from_checkpoint True, or where the backend can't resume, with
--start_from_checkpoint True: a new start from the last checkpoint's weights, with the steps that are left. With
NEURON_EXTRACT_GRAPHS_ONLY=1 (set by neuron_parallel_compile) a few steps are traced and nothing is saved.

--beta is 0.1 unless you set it, and means another thing in each: in ORPO the weight of the odds ratio, in DPO how dear
it is to move away from the reference, which is the model as it is before the first step.
"""

import os
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from helpers.backends import BackendError, set_xla_aside
from helpers.neuron.process import end_with_parent
from helpers.neuron.run import check_visible_cores

if __name__ == "__main__":
    if "LOCAL_WORLD_SIZE" in os.environ:  # of torchrun; the runtime's plugin sets its own variables later
        end_with_parent()  # a worker whose torchrun was killed would hold its NeuronCore
        try:
            check_visible_cores(int(os.environ["LOCAL_WORLD_SIZE"]))
        except ValueError as error:
            sys.exit(f"train.py: {error}")
    set_xla_aside(sys.argv[1:])  # before transformers is imported, which would train on XLA's device

from transformers import PrinterCallback, ProgressCallback, set_seed

from helpers.data import (
    load_preferences,
    sft_features,
    tokenize_preferences,
    truncation_report,
)
from helpers.files import refused, replace_unprintable
from helpers.neuron import depends_on_data, refuse_uneven, settle_shapes
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.fingerprint import fingerprint, remember
from helpers.neuron.compile_cache.watch import compiled_graphs
from helpers.runs import Run
from helpers.runs.told import Refused
from helpers.training import PROFILES, find_base_model, load_config, load_tokenizer
from helpers.training.base_model import is_adapter
from helpers.training.callbacks import Bar
from helpers.training.recipe import lora_config
from scripts.train_arguments import ScriptArguments, parse, precision, refuse_overwriting, settle
from scripts.train_result import JsonLines, finish
from scripts.train_start import GoOn, checkpoint_to_resume, refuse_other_adapter, weights_to_start_from

# All linear layers of Llama and Qwen3: Optimum Neuron fuses some, and finds them by these names
LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(arguments: list[str]) -> int:
    replace_unprintable()
    folder = "."
    try:
        script, backend, args = parse(arguments)
        folder = args.output_dir
        (predict if script.will_it_compile else train)(script, backend, args)
    except (BackendError, Refused, ValueError, ImportError) as error:
        said = " ".join(str(error).split())
    except Exception as error:
        said = refused(error, Path(folder), "name another --output_dir")
        if said is None and isinstance(error, OSError):  # of a library, not of the system
            said = " ".join(str(error).split())
        if said is None:
            raise
    else:
        return 0
    print(f"train.py: {said}", file=sys.stderr)
    return 1


def train(script: ScriptArguments, backend, args) -> None:
    """Train, save the model, and write the run folder at `args.output_dir`."""
    precompiling = os.environ.get("NEURON_EXTRACT_GRAPHS_ONLY") == "1"
    settle(script, backend, args, precompiling)
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
        stage = run.stage(script.method)
        checkpoint = checkpoint_to_resume(args.resume_from_checkpoint, stage.checkpoints)
        start = weights_to_start_from(script, args, stage.checkpoints)
        refuse_overwriting(script, checkpoint or start, stage, Path(os.environ.get("SM_MODEL_DIR", stage.model_path)))
        trainer = make_trainer(script, backend, args, path, tokenizer, tokenized, stage, start)
        if trainer.is_world_process_zero():
            stage.reserve()
        trainer.train(resume_from_checkpoint=checkpoint)
        if not precompiling:
            if script.lora_rank and is_adapter(path):
                merge(trainer)
            finish(script, backend, trainer, run)
    if backend.fixed_shapes and trainer.is_world_process_zero():
        print(f"XLA compiled {compiled_graphs()} graphs", flush=True)


def graphs_remembered(script: ScriptArguments, backend, args, path: str):
    """Where graphs are compiled, note which run made them."""
    return remember(fingerprint_of(script, args, path)) if backend.fixed_shapes else nullcontext()


def read_pairs(script: ScriptArguments, args, tokenizer):
    """The tokenised pairs. From them follows what of a step's fixed shape isn't given."""
    pairs = load_preferences(script.data, limit=script.pairs, seed=args.seed, system_in_user=script.system_in_user)
    tokenized = tokenize_preferences(pairs, tokenizer, args.max_length, getattr(args, "max_prompt_length", None))
    if hasattr(args, "max_response_length"):
        settle_shapes(args, tokenized)
    return tokenized


def fingerprint_of(script: ScriptArguments, args, path: str) -> dict:
    """What decides this run's graphs."""
    return fingerprint(script.method, load_config(path), args, script.lora_rank, LINEAR_LAYERS)


def predict(script: ScriptArguments, backend, args) -> None:
    """Say whether the same run would compile anything, and train nothing."""
    if not backend.fixed_shapes:
        print(f"no: {backend.name} compiles no graphs")
        return
    settle(script, backend, args, precompiling=False)
    path, _ = find_base_model(script.model)
    if depends_on_data(args):
        read_pairs(script, args, load_tokenizer(path))
    print(CompileCache().will_it_compile(fingerprint_of(script, args, path)))


def make_trainer(script, backend, args, path, tokenizer, tokenized, stage, start=None):
    """The backend's trainer for the method, on the tokenised pairs; SFT sees their chosen half.

    start: the checkpoint whose weights it starts from, instead of those of the base model.
    """
    if backend.fixed_shapes:
        refuse_uneven(len(tokenized), args)  # making the model compiles a graph already
    features = features_of(script.method, tokenized)
    lora = lora_config(script.lora_rank, linear_layers(backend)) if script.lora_rank and not start else None
    args.output_dir = str(stage.checkpoints)
    model = backend.load_model(path, args, start)
    if start:
        refuse_other_adapter(model, start, script.lora_rank)
    trainer = backend.trainer(script.method)(
        model=model,
        args=args,
        train_dataset=features,
        processing_class=tokenizer,
        peft_config=lora,
    )
    if start:
        trainer.add_callback(GoOn(trainer, start))
    trainer.add_callback(JsonLines(stage, backend.fixed_shapes))
    if trainer.pop_callback(PrinterCallback) is None and trainer.pop_callback(ProgressCallback):
        trainer.add_callback(Bar)  # whose log lines would stand among those of JSON
    return trainer


def linear_layers(backend):
    """Where an adapter goes: PEFT finds all linear layers, whatever a model calls them; Optimum Neuron needs names."""
    return LINEAR_LAYERS if backend.fixed_shapes else "all-linear"


def features_of(method: str, tokenized):
    """The pairs in the columns that the method's trainer reads: SFT's are the chosen half."""
    return sft_features(tokenized) if method == "sft" else tokenized


def merge(trainer) -> None:
    """Make the adapter's model whole: it was put on a base with an earlier adapter in it, which no folder holds."""
    print("Saved whole: the earlier adapter is part of the new one's base", flush=True)
    trainer.model = trainer.model.merge_and_unload()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
