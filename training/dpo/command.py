"""The command line of the trainer."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from training.dpo.settings import DPOSettings

EPILOG = """\
DATA is JSONL. A line is a pair, as TRL's DPOTrainer takes it:
  {"prompt": "...", "chosen": "...", "rejected": "..."}
or a comparison, a prompt with all of its stories:
  {"prompt": "...", "completions": ["best", "second", "worst"]}
  {"prompt": "...", "completions": [...], "ranks": [2, 1, 2]}
  {"prompt": "...", "completions": [...], "pairs": [{"chosen": 1, "rejected": 0, "weight": 0.5}]}
A completion is text or {"text", "token_ids", "finish_reason"}. Prompts and stories may be lists of
messages instead of text: the model's chat template is then applied, once. Text is taken as it is.
More names that are understood: "prompt_ids", "chosen_ids", "rejected_ids" (the sampler's own tokens,
trained on as they are), "edited" (true: a person wrote the chosen story, and it has text alone),
"chosen_finish_reason", "rejected_finish_reason" ("length": it was cut off, and gets no end token),
"weight" (how much the pair counts), "margin" (how clearly it is preferred; if it is not there, the
weight), "criterion" (what it was judged by: see --objectives).
The pairs of one prompt are trained together: each distinct story goes through the model once.

LOSSES (c, r: log-ratios of chosen and rejected to the reference; h = beta (c - r) - margin)
  sigmoid       -log sigmoid(h): DPO. With --label-smoothing: cDPO
  robust        the same, unbiased when a share of --label-smoothing pairs is judged wrongly: rDPO
  ipo           ((c - r) a token - margin / beta - 1 / (2 beta))^2
  hinge         max(0, 1 - h)
  sigmoid_norm  sigmoid of averages a token instead of sums: needs a larger beta
  apo_zero, apo_down  for chosen stories that are better, or worse, than the policy's own
and added to any of them: --sft-weight (RPO), --contrastive-weight, --ld-alpha, --objectives.

STAGES: --config run.toml holds settings by name, and stages that train one after the other:
  beta = 0.2
  [[stages]]
  name = "style"
  objectives = "style=1"
  [[stages]]
  name = "educational-value"
  data = "value.jsonl"
  beta = 0.1

OUT/policy is the result (safetensors: full weights, or a PEFT adapter), OUT/run.json says how it was
made, OUT/metrics.jsonl holds the figures step by step; OUT/stages/ has each stage's. A run that was
interrupted goes on from OUT/checkpoint when the same command is given again, to the same weights.
SIGTERM ends it after the step that it is in, with a checkpoint.

SEVERAL GPUS: accelerate launch --num-processes 4 -m training.dpo ... gives the numbers of one process.
With --use_fsdp (accelerate's option, before -m) the weights are sharded.

Exit status: 0 done, 2 bad input, 3 training failed, 86 out of memory, 87 disk full, 143 ended by
SIGTERM (a launcher has its own).
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m training.dpo",
        description="Train a language model on preferences between its stories, by DPO.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="the policy: safetensors and tokenizer")
    add("--adapter", type=Path, metavar="DIR", help="a PEFT adapter on it: trained further with lora, else merged")
    add("--data", type=Path, required=True, metavar="FILE", help="preferences: see DATA below")
    add("--out", type=Path, required=True, metavar="DIR", help="for the result")
    add("--reference", type=Path, metavar="DIR", help="the model to measure against, if not the policy as it begins")
    add("--reference-adapter", type=Path, metavar="DIR", help="a PEFT adapter on it")
    add("--cache", type=Path, metavar="DIR", help="keeps the reference's log-probabilities for further runs")
    add("--config", type=Path, metavar="FILE", help="settings, and perhaps stages, as TOML or JSON")
    add("--dry-run", action="store_true", help="read all, say what would be trained and what it wants, and stop")
    add("--json", action="store_true", help="print each step's figures as a line of JSON")
    add("--tensorboard", action="store_true", help="write OUT/tensorboard too")
    settings = found.add_argument_group("settings", "decide the result; each may stand in --config too")
    for option in dataclasses.fields(DPOSettings):
        _add_setting(settings, option)
    return found


def _add_setting(group: Any, option: "dataclasses.Field[Any]") -> None:
    limits, kind = option.metadata, type(option.default)
    said = [f"{limits['low']:g} to {limits['high']:g}"] if limits["low"] is not None else []
    said.append(f"default {option.default if option.default != '' else 'none'}")
    more: dict[str, Any] = {"type": kind, "choices": limits.get("choices"), "metavar": kind.__name__.upper()}
    if limits.get("choices"):
        del more["metavar"]
    if kind is bool:
        more = {"action": argparse.BooleanOptionalAction}
    name = f"--{option.name.replace('_', '-')}"
    help_text = f"{limits['help']} ({', '.join(said)})".replace("%", "%%")
    group.add_argument(name, default=argparse.SUPPRESS, help=help_text, **more)


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    arguments = parser().parse_args(argv)

    from transformers.utils import logging

    from training.dpo.distributed import leave
    from training.dpo.ends import explained

    logging.disable_progress_bar()
    try:
        run(arguments)
    except Exception as error:
        end = explained(error, arguments)
        if end is None:
            raise
        return _end(*end)
    finally:
        leave()
    return 0


def _settings(arguments: argparse.Namespace) -> tuple[DPOSettings, list[Any]]:
    """Settings and stages, from the command line and --config. Raises BadSettings."""
    from training.dpo.stages import read_config

    names = [option.name for option in dataclasses.fields(DPOSettings)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    if arguments.config:
        return read_config(arguments.config, given)
    return DPOSettings.of(given, "the command line"), []


def run(arguments: argparse.Namespace) -> None:
    """Train with the parsed arguments; progress goes to standard output and OUT/metrics.jsonl."""
    from training.dpo.distributed import join
    from training.dpo.estimate import keep_freed_memory
    from training.dpo.record import Result, finished
    from training.dpo.run import Run
    from training.dpo.stages import run_stages
    from training.dpo.trainer import train

    settings, stages = _settings(arguments)
    keep_freed_memory()
    whole = arguments.current = Run(
        model=arguments.model,
        data=arguments.data,
        out=arguments.out,
        settings=settings,
        adapter=arguments.adapter,
        reference=arguments.reference,
        reference_adapter=arguments.reference_adapter,
        cache=arguments.cache,
        processes=join(),
    )
    whole.check()
    if arguments.dry_run:
        return _dry_run(whole, stages)

    def train_one(one: Run) -> Result:
        arguments.current = one.settled()
        reporter = Reporter(arguments.current, as_json=arguments.json, tensorboard=arguments.tensorboard)
        try:
            return train(one, reporter.callbacks())
        finally:
            reporter.close()

    if stages:
        result = run_stages(whole, stages, train_one)
    elif done := finished(whole):
        _say(f"{whole.out / 'policy'} is there already: the same model, data and settings")
        result = done
    else:
        result = train_one(whole)
    if whole.processes.first:
        stopped = f", stopped early: {result.stopped}" if result.stopped else ""
        _say(f"{result.steps} steps on {result.pairs} pairs{stopped}: {result.directory}")
    return None


class Reporter:
    """Tells a person, or the process that started this one, how a run goes on."""

    def __init__(self, run: Any, *, as_json: bool, tensorboard: bool) -> None:
        from training.dpo.metrics import Log

        self.run = run
        self.as_json = as_json
        self.log = Log(run.out, tensorboard=tensorboard)

    def callbacks(self) -> Any:
        from training.dpo.trainer import Callbacks

        return Callbacks(self.start, self.step, self.evaluation, _say)

    def start(self, dataset: Any, done: int) -> None:
        self.log.done = done
        stage = f"stage {self.run.stage}: " if self.run.stage else ""
        notes = [dataset.left_out(), f"going on after step {done}" if done else ""]
        said = "; ".join([f"{dataset.pairs} pairs of {len(dataset.groups)} prompts", *filter(None, notes)])
        _say(f"{stage}{said}")
        _say(_wants(self.run, dataset.groups))

    def step(self, metrics: Any) -> None:
        self._tell(
            metrics,
            f"step {metrics.step}/{metrics.total_steps}  loss {metrics.loss:.4f}  "
            f"rewards/accuracies {metrics.rewards_accuracies:.2f}  rewards/margins {metrics.rewards_margins:.2f}  "
            f"kl {metrics.kl:.2f}  {metrics.pairs_per_second:.1f} pairs/s",
        )

    def evaluation(self, metrics: Any) -> None:
        self._tell(
            metrics,
            f"after step {metrics.step}, held out:  loss {metrics.loss:.4f}  "
            f"rewards/accuracies {metrics.rewards_accuracies:.2f}  kl {metrics.kl:.2f}",
        )

    def _tell(self, metrics: Any, words: str) -> None:
        row = self.log.write(metrics)
        print(json.dumps(row) if self.as_json else words, flush=True)

    def close(self) -> None:
        self.log.close()


def _wants(run: Any, groups: list[Any]) -> str:
    """A comparison is not cut: the largest may be more than the micro-batch."""
    from training.dpo.estimate import free_memory
    from training.dpo.plan import group_tokens
    from training.dpo.shapes import gigabytes, memory, shapes

    device, bf16 = run.processes.device(), run.precision() == "bf16"
    tokens = max(run.micro_batch_tokens(), *map(group_tokens, groups))
    wanted = memory(shapes(run.model), run.settings, tokens, bf16=bf16)
    return f"about {gigabytes(wanted)} of memory on {device.type}; {gigabytes(free_memory(device))} are free"


def _dry_run(whole: Any, stages: list[Any]) -> None:
    """What would be trained, and what it wants, without training."""
    from generation.engines.loading import load_tokenizer
    from training.dpo.plan import epochs, group_tokens, hold_out
    from training.dpo.trainer import time_a_pass

    if not whole.processes.first:
        return
    tokenizer = load_tokenizer(whole.model)
    runs = [
        dataclasses.replace(whole, data=s.data or whole.data, settings=s.settings, stage=s.name) for s in stages
    ] or [whole]
    for one in runs:
        dataset = one.read(tokenizer)
        training, held_out = hold_out(dataset, one.settings.eval_share, one.settings.seed)
        plan = epochs(training, one.settings, max_tokens=one.token_limit())
        tokens = sum(map(group_tokens, dataset.groups))
        left_out = dataset.left_out()
        print(
            f"{f'stage {one.stage}: ' if one.stage else ''}{dataset.pairs} pairs of {len(dataset.groups)} prompts"
            f"{f', {left_out}' if left_out else ''}; {len(held_out)} prompts held out; {tokens} tokens"
        )
        print(_wants(one, dataset.groups))
        print(one.time_estimate(time_a_pass(one, tokenizer, training[0]), dataset.groups, plan))


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _end(status: int, message: str) -> int:
    _say(f"training.dpo: {message}")
    return status
