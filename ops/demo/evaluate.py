"""Greedy accuracy of the demo models on the held-out questions: `python -m ops.demo.evaluate`."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ops.demo.questions import KINDS, Question, read_questions

MODELS = Path(__file__).with_name("models")


def answers(folder: Path, questions: Sequence[str], batch: int = 64) -> list[str]:
    """The answers of the model in a folder, each question asked alone with plain `generate`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    replies: list[str] = []
    for start in range(0, len(questions), batch):
        inputs = tokenizer.apply_chat_template(
            [[{"role": "user", "content": text}] for text in questions[start : start + batch]],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        replies += tokenizer.batch_decode(new, skip_special_tokens=True)
    return replies


def accuracy(folder: Path, questions: Sequence[Question]) -> dict[str, float]:
    """The share of correct answers, 0 to 1, by kind and for all questions under "all"."""
    correct = defaultdict[str, list[bool]](list)
    replies = answers(folder, [question.question for question in questions])
    for question, reply in zip(questions, replies, strict=True):
        correct[question.kind].append(reply == question.answer)
        correct["all"].append(reply == question.answer)
    return {kind: sum(marks) / len(marks) for kind, marks in correct.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", type=Path, default=MODELS, help="a folder with one folder for each model"
    )
    folders = sorted(parser.parse_args().models.iterdir())
    by_model = [accuracy(folder, read_questions()) for folder in folders]
    print("| kind |", " | ".join(folder.name for folder in folders), "|")
    print("|---" * (len(folders) + 1) + "|")
    for kind in (*KINDS, "all"):
        print(f"| {kind} |", " | ".join(f"{scores[kind]:.2f}" for scores in by_model), "|")


if __name__ == "__main__":
    main()
