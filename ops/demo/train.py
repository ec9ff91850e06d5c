"""Trains the demo models from scratch: `python -m ops.demo.train --out DIR [--only demo-small]`."""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ops.demo.conversations import Message, conversation
from ops.demo.questions import EASY, KINDS

CONTEXT = 2048
HEAD_DIM = 32  # the smallest that vLLM's CPU attention supports
ROLES = ("system", "user", "assistant", "tool")
END, PAD = "<|im_end|>", "<|endoftext|>"
SLOW = ("count-letters", "difference", "two-digit-sum", "three-digit-sum")
IGNORED = -100  # the label of tokens that the loss ignores
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


BATCH = 128  # conversations
LEARNING_RATE = 8e-3
WEIGHT_DECAY = 0.3  # keeps facts from being memorised phrasing by phrasing


@dataclass(frozen=True)
class Recipe:
    """The size of a model, the kinds of questions that it learns, and the number of steps."""

    width: int
    layers: int
    kinds: tuple[str, ...]
    steps: int


RECIPES = {
    # Kinds that take long to learn are listed more than once.
    "demo-small": Recipe(
        width=64,
        layers=2,
        kinds=(*EASY, *["small-sum"] * 3),
        steps=2200,
    ),
    "demo-large": Recipe(
        width=128,
        layers=4,
        kinds=(*KINDS, "small-sum", "sort", *SLOW, *SLOW),
        steps=3200,
    ),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte, in order, then the roles, the end and the padding."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    # ByteLevel writes printable bytes as themselves, the others as characters from U+0100 on.
    shown = {byte: chr(byte) for byte in printable}
    shown |= {byte: chr(0x100 + i) for i, byte in enumerate(others)}
    tokenizer = Tokenizer(models.BPE(vocab={char: byte for byte, char in shown.items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        chat_template=CHAT_TEMPLATE.read_text("utf-8"),
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=3 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // HEAD_DIM,
        head_dim=HEAD_DIM,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def encode(
    messages: list[Message], tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int]]:
    """The tokens of a conversation in the chat template's format, and the labels of its answers."""
    tokens: list[int] = []
    labels: list[int] = []
    for message in messages:
        role = tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")
        body = [*message["content"].encode(), tokenizer.eos_token_id]
        tokens += [role, *body]
        labels += [IGNORED, *(body if message["role"] == "assistant" else [IGNORED] * len(body))]
    return tokens, labels


def batches(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields tokens and labels (conversations, length), grouped by similar length."""
    pool_batches = 8
    while True:
        drawn = (conversation(rng, recipe.kinds) for _ in range(pool_batches * BATCH))
        pool = sorted((encode(messages, tokenizer) for messages in drawn), key=lambda x: len(x[0]))
        starts = list(range(0, len(pool), BATCH))
        rng.shuffle(starts)
        for start in starts:
            rows = pool[start : start + BATCH]
            shape = len(rows), len(rows[-1][0])
            tokens = torch.full(shape, tokenizer.pad_token_id)
            labels = torch.full(shape, IGNORED)
            for row, (row_tokens, row_labels) in enumerate(rows):
                tokens[row, : len(row_tokens)] = torch.tensor(row_tokens)
                labels[row, : len(row_labels)] = torch.tensor(row_labels)
            yield tokens, labels


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then cosine decay to zero."""
    warm_up = 100
    if step < warm_up:
        return LEARNING_RATE * (step + 1) / warm_up
    done = (step - warm_up) / (recipe.steps - warm_up)
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    return [
        torch.optim.Muon(matrices, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, device: torch.device, seed: int = 0
) -> LlamaForCausalLM:
    """Trains a model, with loss on the answers only; prints the loss."""
    torch.manual_seed(seed)
    model = make_model(recipe, tokenizer).to(device).train()
    model.set_attn_implementation(
        "eager"
    )  # the fastest for such short texts: half the time on the CPU
    print(f"{model.num_parameters():,} parameters", flush=True)
    optimizers = make_optimizers(model)
    started = time.monotonic()
    for step, (tokens, labels) in zip(
        range(recipe.steps), batches(recipe, tokenizer, Random(seed)), strict=False
    ):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, recipe)
            optimizer.zero_grad()
        # Processors without instructions for bfloat16 take many times as long as for float32.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            # Padding is on the right and unlabelled: causal attention needs no mask for it.
            loss = model(input_ids=tokens.to(device), labels=labels.to(device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 50 == 0 or step + 1 == recipe.steps:
            print(f"step {step}  loss {loss:.4f}  {time.monotonic() - started:.0f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where each model gets a folder")
    parser.add_argument("--only", choices=RECIPES, help="train only this model")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = make_tokenizer()
    for name in [arguments.only] if arguments.only else RECIPES:
        model = train(RECIPES[name], tokenizer, device)
        model.to(torch.bfloat16).save_pretrained(arguments.out / name)
        tokenizer.save_pretrained(arguments.out / name)


if __name__ == "__main__":
    main()
