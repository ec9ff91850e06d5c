"""Chat models of some thousand parameters, made in seconds: random ones, and ones that recite."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CONTEXT = 2048
_SPREAD = 0.3  # of the random weights: wide, so that contexts and choices differ clearly
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Knows tools: their names, calls and results.
CHATML_WITH_TOOLS = (
    "{% if tools %}<|im_start|>tools\n{{ tools | map(attribute='function.name') | join(',') }}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(chat_template: str, marks: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """One token for each byte, the two marks of ChatML, and `marks`, which are shown in texts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )
    made.add_tokens(list(marks))
    return made


def random_model(
    folder: Path, *, chat_template: str = CHATML, generation: Mapping[str, object] | None = None
) -> Path:
    """Saves a model of random weights, far enough from zero that its choices are clear."""
    tokenizer = byte_tokenizer(chat_template)
    model = _llama(tokenizer, width=64)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, **(generation or {})
    )
    return _save(folder, tokenizer, model)


def reciting_model(
    folder: Path,
    answers: Mapping[str, str],
    *,
    chat_template: str = CHATML_WITH_TOOLS,
    tools: list[dict[str, object]] | None = None,
    response_template: Mapping[str, object] | None = None,
    marks: Sequence[str] = (),
) -> Path:
    """Saves a model that answers each of a few user messages with one known text."""
    tokenizer = byte_tokenizer(chat_template, marks)
    if response_template is not None:
        tokenizer.response_template = dict(response_template)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            tools=offered,
            add_generation_prompt=True,
            return_dict=False,
        )
        for question in answers
        for offered in (None, tools)
    ]
    texts = [text for text in answers.values() for _ in range(2)]
    endings = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts]
    contexts = sum(map(len, endings))
    model = _llama(tokenizer, width=64 * (contexts // 50 + 1))
    _memorise(model, prompts, endings)
    return _save(folder, tokenizer, model)


@torch.no_grad()
def _memorise(model: LlamaForCausalLM, prompts: list[list[int]], endings: list[list[int]]) -> None:
    """Solves for the output layer that continues each prompt with its ending.

    The layers below stay random: they tell the contexts apart, and there are more features than
    contexts, so that a linear map fits all of them. No training could be as quick.
    """
    states, wanted = [], []
    for prompt, ending in zip(prompts, endings, strict=True):
        hidden = model.model(torch.tensor([prompt + ending])).last_hidden_state[0]
        states.append(hidden[len(prompt) - 1 : -1])
        wanted.extend(ending)
    features = torch.cat(states).double()
    targets = torch.nn.functional.one_hot(torch.tensor(wanted), model.vocab_size).double()
    solution = torch.linalg.lstsq(features, 10 * targets).solution
    model.lm_head.weight.copy_(solution.T)
    assert (features @ solution).argmax(-1).tolist() == wanted


def _llama(tokenizer: PreTrainedTokenizerFast, *, width: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=width // 32,
            max_position_embeddings=CONTEXT,
            initializer_range=_SPREAD,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _save(folder: Path, tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> Path:
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def random_adapter(model: Path, folder: Path, *, spread: float) -> Path:
    """Saves a LoRA adapter for a model, in PEFT's format: random weights, as far from zero as
    `spread` says; with 0 it changes nothing."""
    config = AutoConfig.from_pretrained(model)
    width, rank = config.hidden_size, 8
    torch.manual_seed(0)
    weights = {}
    for layer in range(config.num_hidden_layers):
        at = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{at}.lora_A.weight"] = torch.randn(rank, width) * spread
        weights[f"{at}.lora_B.weight"] = torch.randn(width, rank) * spread
    save_file(weights, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return folder
