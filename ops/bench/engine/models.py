"""The models that are served."""

import shutil
from pathlib import Path

DEMO_LARGE = Path(__file__).parents[2] / "demo" / "models" / "demo-large"


def slow_model(folder: Path) -> Path:
    """Saves a Llama of random weights with the demo's tokenizer. Its many thin layers take about as
    long for a step as 8 billion parameters on a GPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(DEMO_LARGE, folder)
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(
        DEMO_LARGE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=28,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder
