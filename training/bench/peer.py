"""TRL's side of a case: python -m training.bench.peer CASE.json OUT.json

In fp32 without gradient checkpointing, the fastest that TRL has on a CPU: its own defaults (bfloat16
and checkpointing) are several times slower there. On a GPU in bfloat16, without checkpointing too.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from training.bench.case import BETA, LORA_ALPHA, LORA_RANK, PROMPTS, RATES, SEED, Case, Measured, measure


def run(case: Case, folder: Path) -> Measured:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOTrainer

    found = Measured()
    clock: list[float] = []

    class Trainer(DPOTrainer):
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            loss = super().compute_loss(*arguments, **named)
            found.losses.append(loss.item())
            return loss

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            clock.append(time.perf_counter())
            return super().training_step(*arguments, **named)

    rows = [json.loads(line) for line in case.lines(loose=True)]
    tokenizer = AutoTokenizer.from_pretrained(case.model)
    dataset = Dataset.from_list(rows)
    model = AutoModelForCausalLM.from_pretrained(case.model, dtype=torch.float32)

    def work() -> None:
        trainer = Trainer(
            model=model,
            args=_config(case, folder),
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=_lora(case),
        )
        _same_adapter(case, trainer.model)
        trainer.train()
        found.step_seconds = time.perf_counter() - clock[0]

    measure(work, found, case.device)
    found.pairs = len(rows)
    found.tokens = sum(_tokens(tokenizer, row) for row in rows)
    return found


def _config(case: Case, folder: Path) -> Any:
    from trl import DPOConfig

    return DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=PROMPTS * case.pairs_a_prompt,
        num_train_epochs=1,
        max_length=None,
        learning_rate=RATES[case.weights],
        beta=BETA,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        seed=SEED,
        use_cpu=case.device == "cpu",
        bf16=case.device == "cuda",
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _lora(case: Case) -> Any:
    from peft import LoraConfig

    if case.weights == "full":
        return None
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, task_type="CAUSAL_LM", target_modules=layers
    )


def _same_adapter(case: Case, model: Any) -> None:
    """Begin with the adapter that our side begins with."""
    if case.weights == "lora":
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(model, load_file(case.adapter / "adapter_model.safetensors"))


def _tokens(tokenizer: Any, row: dict[str, str]) -> int:
    """Real tokens, no padding: the prompt twice and both stories with their ends."""
    count = {name: len(tokenizer(row[name], add_special_tokens=False).input_ids) for name in row}
    return 2 * count["prompt"] + count["chosen"] + count["rejected"] + 2


def main() -> None:
    case = Case(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(case.threads)
    with tempfile.TemporaryDirectory() as folder:
        run(case, Path(folder)).write(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
