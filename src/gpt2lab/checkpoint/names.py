"""What a model's tensors are called on disk, and which way round their matrices lie.

Our names are those of OpenAI's GPT-2 as `transformers` spells them, so on disk they gain only the prefix
`transformer.`; GPT-1 calls its two embeddings otherwise. The published files hold attention and feed-forward
matrices as (in, out), the way of `Conv1D` there; ours are (out, in).
"""

from gpt2lab.model.config import Architecture

_PREFIX = "transformer."
_GPT1_NAMES = {"wte.weight": "tokens_embed.weight", "wpe.weight": "positions_embed.weight"}
_OUR_NAMES = {theirs: ours for ours, theirs in _GPT1_NAMES.items()}

_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
_MASKS = (".attn.bias", ".attn.masked_bias", "position_ids")  # constants that older files carry along


def name_on_disk(name: str, architecture: Architecture) -> str:
    """What `transformers` calls our tensor `name`.

    >>> name_on_disk("wte.weight", "gpt1")
    'transformer.tokens_embed.weight'
    """
    if name == "lm_head.weight":
        return name
    return _PREFIX + (_GPT1_NAMES.get(name, name) if architecture == "gpt1" else name)


def name_in_model(on_disk: str, architecture: Architecture) -> str | None:
    """What we call the tensor `on_disk`, with or without its prefix; None for constants that are no weights.

    >>> name_in_model("h.0.ln_1.bias", "gpt2")
    'h.0.ln_1.bias'
    >>> name_in_model("transformer.h.0.attn.bias", "gpt2") is None
    True
    """
    if on_disk.endswith(_MASKS):
        return None
    name = on_disk.removeprefix(_PREFIX)
    return _OUR_NAMES.get(name, name) if architecture == "gpt1" else name


def is_transposed(name: str) -> bool:
    """Whether our tensor `name` is the transpose of what the file holds."""
    return name.endswith(_TRANSPOSED)
