"""The samples a training run prints on the way: the trainer asks for them, the generator writes them."""

from gpt2lab.generation.engine import generate
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer


def write_sample(model: GPT, tokenizer: Tokenizer, prompt: str) -> str:
    """About a paragraph after `prompt`, the same for the same weights."""
    return generate(model, tokenizer, prompt, max_new_tokens=80, temperature=0.8, top_k=40, seed=1)
