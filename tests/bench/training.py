"""`python -m tests.bench.training [verdicts | speed | hh | curve] ...`: what the verdict says where the answer is known, what trainings cost.

verdicts    20 experiments each of a known signal and of labels by lot, 6 of length alone; those that are done are read again
collect     what those that are done found, judged by the code as it is
hh          one experiment on real pairs of people (needs the shared data beside the project)
curve       what 10, 100, 500 and 1,000 rows of a known signal buy
experiments three experiments that differ in one thing each, for the notebook about comparing them
speed       seconds and memory of each method with its defaults, and tokens/s beside TRL's own script on the same model and data
large       a model of 119 million parameters, from its config, trained for four steps (on a GPU, where there is one, for 200)

Results go to data/results/training; the folders of trainings to data/runs/bench. On one core (OMP_NUM_THREADS=1) verdicts take
about an hour, hh 15, curve 20 and the others 5."""

import argparse
import itertools
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from workbench import imports, intervals, share, store
from workbench.records import Instruction
from workbench.train import bases, compare, forms, known, learning, splits, trl_runs
from workbench.train.trl_runs import Settings

ROOT = Path(__file__).parents[2]
RESULTS, RUNS = ROOT / "data" / "results" / "training", ROOT / "data" / "runs" / "bench"
EXPERIMENTS, PAIRS = {"signal": 20, "labels by lot": 20, "length": 6}, 120
# 11 steps of 8 pairs an arm and seed, at twice the default rate: enough for the signal, and 45 experiments in an hour.
PLAN = {
    "settings": Settings(learning_rate=2e-3, batch_size=8),
    "controls": ("shuffled labels", "length only", "random pairs"),
}
KINDS = {
    "signal": lambda pages, seed: known.plain_or_hedged(pages, PAIRS, seed=seed),
    "labels by lot": lambda pages, seed: known.plain_or_hedged(pages, PAIRS, right=0.5, seed=seed),
    "length": lambda pages, seed: known.longer(pages, PAIRS, seed=seed),
}


def _split_seed(rows, seed: int) -> int:
    """The first split of this experiment's own that holds enough groups out to tell anything."""
    groups = lambda parts: len({parts.groups[row.id] for row in parts.held_out})
    return next(each for each in itertools.count(seed, 20) if groups(splits.split(rows, seed=each)) >= intervals.FEW)


def verdicts(kinds: list[str], seeds: list[int]) -> None:
    pages = store.documents(ROOT / "data" / "documents")
    for kind in kinds:
        for seed in range(*(seeds or [EXPERIMENTS[kind]])):
            folder = RUNS / kind.replace(" ", "-") / str(seed)
            rows = KINDS[kind](pages, seed)
            plan = compare.Plan(split_seed=_split_seed(rows, seed), **PLAN)
            found = compare.run(rows, out=folder, plan=plan)
            print(kind, seed, found.findings[0], flush=True)


def collect() -> None:
    """Write what the finished experiments found, judged again by the code as it is."""
    rows = []
    for kind in KINDS:
        for folder in sorted(
            (RUNS / kind.replace(" ", "-")).glob("*/items.parquet"), key=lambda path: int(path.parent.name)
        ):
            found = compare.read(folder.parent)
            differences = {
                each["control"]: [each["difference"], each["low"], each["high"]]
                for each in found.findings[0].table().to_pylist()
                if each["is_primary"]
            }
            rows.append(
                {
                    "kind": kind,
                    "seed": int(folder.parent.name),
                    "verdict": found.verdict,
                    "reason": found.findings[0].reason,
                    "differences": differences,
                }
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "verdicts.json").write_text(json.dumps(rows, indent=1) + "\n")
    for kind in KINDS:
        said = [row["verdict"] for row in rows if row["kind"] == kind]
        print(kind, {each: said.count(each) for each in sorted(set(said))}, "of", len(said))


def hh() -> None:
    """Pairs of people about harmlessness, those of at most 192 tokens; 210 or so to train on, 300 held out."""
    given = imports.hh_rlhf(ROOT.parent / "shared" / "data" / "hh_rlhf_harmless" / "test.jsonl.gz").preferences
    base = bases.load()
    tokenizer = forms.tokenizer(base)
    short = [row for row in given if forms.longest(forms.lines([row], "dpo", base)[0], tokenizer) <= 192][:520]
    plan = compare.Plan(held_out=0.58, settings=Settings(), controls=PLAN["controls"])
    found = compare.run(short, out=RUNS / "hh", base=base, plan=plan)
    print(found)
    keep(found.folder, "hh_rlhf_harmless", without_rows=True)


def curve() -> None:
    pages = store.documents(ROOT / "data" / "documents")
    rows = known.plain_or_hedged(pages, 1700)
    plan = compare.Plan(held_out=0.38, max_held_out=200)
    found = learning.curve(rows, out=RUNS / "curve", plan=plan)
    print(found)
    keep(found.folder, "curve")


def several() -> None:
    """One to compare with, one at twice its rate, one with a quarter of the labels wrong; 240 pairs, 5 seeds."""
    pages = store.documents(ROOT / "data" / "documents")
    clean, dirty = (known.plain_or_hedged(pages, 240, right=right) for right in (1.0, 0.75))
    parts = splits.split(clean, held_out=0.3)
    held = {row.provenance.source.document_id for row in parts.held_out}
    train = {
        name: [row for row in rows if row.provenance.source.document_id not in held]
        for name, rows in (("clean", clean), ("dirty", dirty))
    }
    plan = compare.Plan(seeds=5, settings=Settings(batch_size=8), controls=("shuffled labels",))
    faster = replace(plan, settings=replace(plan.settings, learning_rate=2e-3))
    for name, rows, each in (
        ("first", "clean", plan),
        ("twice the rate", "clean", faster),
        ("a quarter wrong", "dirty", plan),
    ):
        found = compare.run(train[rows], out=RUNS / "experiments" / name, plan=each, held_out=parts.held_out)
        print(name, found, flush=True)
        keep(found.folder, f"../experiments/{name}")


def keep(folder: Path, name: str, *, without_rows: bool = False) -> None:
    """Copy what an experiment found, without the models; and without the held-out rows where they are others' texts."""
    (RESULTS / name).mkdir(parents=True, exist_ok=True)
    for each in ("experiment.json", "items.parquet", *(() if without_rows else ("held_out.parquet",))):
        if (folder / each).exists():
            shutil.copy(folder / each, RESULTS / name / each)


# --- cost -----------------------------------------------------------------------------------------------------------


def one(method: str, out: str) -> None:
    """In a process of its own: one training with its defaults, of 192 pairs, and what it took."""
    pages = store.documents(ROOT / "data" / "documents")
    pairs = known.plain_or_hedged(pages, 192)
    rows = pairs if method != "sft" else [Instruction(pair.prompt, output=pair.chosen) for pair in pairs]
    started = time.process_time()
    trained = getattr(trl_runs, method)(rows, out=out, seed=0, progress=False)
    print(json.dumps({
        "method": method, "rows": trained.rows, "tokens": trained.tokens, "steps": trained.steps, "seconds": trained.seconds,
        "cpu_seconds": round(time.process_time() - started, 1), "device": trained.device,
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }))  # fmt: skip


def speed() -> None:
    """Each method once, and TRL's own script five times in turn with ours, on the same lines, base and settings."""
    shutil.rmtree(RUNS / "speed", ignore_errors=True)
    rows = []
    for method in trl_runs.METHODS:
        said = subprocess.run(
            [sys.executable, "-m", "tests.bench.training", "one", "--kinds", method],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(json.loads(said.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    pages = store.documents(ROOT / "data" / "documents")
    pairs = known.plain_or_hedged(pages, 192)
    folder = RUNS / "speed" / "data"
    share.export(pairs, folder, formats=["preference_chat"])
    shutil.move(folder / "preference.preference_chat.jsonl", folder / "train.jsonl")
    (folder / "preference.preference_chat.records.parquet").unlink()
    ours, theirs = [], []
    for _ in range(5):
        said = subprocess.run(
            [sys.executable, "-m", "tests.bench.training", "one", "--kinds", "dpo"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(said.stdout.splitlines()[-1])
        ours.append(found["tokens"] / found["seconds"])
        theirs.append(found["tokens"] / _theirs(folder))
        print(f"tokens/s: ours {ours[-1]:,.0f}, TRL's script {theirs[-1]:,.0f}", flush=True)
    told = {
        "methods": rows,
        "tokens_per_second": {
            "ours": ours,
            "trl dpo.py": theirs,
            "ratio of medians": statistics.median(ours) / statistics.median(theirs),
        },
    }
    (RESULTS / "speed.json").write_text(json.dumps(told, indent=1) + "\n")
    print(told["tokens_per_second"])


def _theirs(folder: Path) -> float:
    """Seconds that TRL's script says its training took."""
    base = bases.load()
    settings = trl_runs.with_rate(Settings(), "dpo", base)
    command = [
        sys.executable, "-m", "trl.scripts.dpo", "--dataset_name", str(folder), "--model_name_or_path", str(base.folder),
        "--learning_rate", str(settings.learning_rate), "--num_train_epochs", "1", "--per_device_train_batch_size", "16",
        "--output_dir", str(RUNS / "speed" / "trl"), "--report_to", "none", "--max_length", str(settings.max_length), "--use_peft",
        "--lora_r", "16", "--lora_alpha", "32", "--lora_target_modules", "all-linear", "--lr_scheduler_type", "cosine",
        "--save_strategy", "no", "--logging_steps", "1", "--beta", "0.1", "--gradient_checkpointing", "False",
    ]  # fmt: skip
    import torch

    if not torch.cuda.is_available():
        command += ["--use_cpu", "True", "--bf16", "False"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = re.findall(r"'train_runtime': '?([\d.]+)", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"TRL's script failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return float(found[-1])


def large() -> None:
    """A model of 119 million parameters with tiny-base's tokenizer, drawn at random, trained by DPO with LoRA."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = RUNS / "large" / "base"
    if not (folder / "config.json").exists():
        tokenizer = forms.tokenizer(bases.load())
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=896, intermediate_size=2432, num_hidden_layers=12, num_attention_heads=14,
            num_key_value_heads=14, max_position_embeddings=1024, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        ))  # fmt: skip
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    has_gpu = torch.cuda.is_available()
    pages = store.documents(ROOT / "data" / "documents")
    rows = known.plain_or_hedged(pages, 1600 if has_gpu else 16)
    settings = Settings(batch_size=8 if has_gpu else 4, learning_rate=1e-3)
    shutil.rmtree(RUNS / "large" / "dpo", ignore_errors=True)
    trained = trl_runs.dpo(rows, base=folder, out=RUNS / "large" / "dpo", settings=settings)
    print(bases.load(folder), trained, sep="\n")
    row = {
        "base": repr(bases.load(folder)),
        "trained": repr(trained),
        "tokens_per_second": trained.tokens / trained.seconds,
        "losses": trained.metrics["loss"].to_pylist(),
    }
    (RESULTS / "large.json").write_text(json.dumps(row, indent=1) + "\n")


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("part", choices=["verdicts", "collect", "hh", "curve", "experiments", "speed", "large", "one"])
    asked.add_argument("--kinds", nargs="*", default=list(KINDS))
    asked.add_argument("--seeds", nargs=2, type=int)
    given = asked.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if given.part == "verdicts":
        verdicts(given.kinds, given.seeds)
    if given.part in ("verdicts", "collect"):
        collect()
    elif given.part == "one":
        shutil.rmtree(RUNS / "speed" / given.kinds[0], ignore_errors=True)
        one(given.kinds[0], str(RUNS / "speed" / given.kinds[0]))
    else:
        {"hh": hh, "curve": curve, "experiments": several, "speed": speed, "large": large}[given.part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
