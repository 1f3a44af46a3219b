"""llama.cpp, by the C functions that its own benchmark uses: `llama_decode`, then `llama_get_logits`."""

import ctypes
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from contract import Engine, Scores, Tokens

FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}
MICRO_BATCH = 512


class LlamaCpp(Engine):
    """A mode is one of llama.cpp's file types."""

    packages = ("llama_cpp_python",)

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        import llama_cpp

        super().__init__(model, work, mode, n_threads)
        self.c = llama_cpp
        self.c.llama_backend_init()
        self.quiet = self.c.llama_log_callback(lambda level, text, data: None)
        self.c.llama_log_set(self.quiet, ctypes.c_void_p())
        self.file = gguf_file(work, mode)
        self.models: dict[bool, Any] = {}
        self.contexts: dict[tuple[str, int, int], Any] = {}
        self.batch: Any = None
        self.choose(self.choices()[0])
        self._model()
        self.weight_bytes = matrix_bytes(self.file)

    @staticmethod
    def prepare(model: Path, work: Path, mode: str) -> None:
        """See `Engine.prepare`."""
        import llama_cpp

        if not gguf_file(work, "F32").exists():
            write_gguf(model, gguf_file(work, "F32"))
        if not gguf_file(work, mode).exists():
            parameters = llama_cpp.llama_model_quantize_default_params()
            parameters.ftype, parameters.nthread = FILE_TYPES[mode], 1
            source, target = (str(gguf_file(work, name)).encode() for name in ("F32", mode))
            if llama_cpp.llama_model_quantize(source, target, ctypes.byref(parameters)):
                raise RuntimeError(f"llama_model_quantize cannot write {mode}")

    def choices(self) -> list[str]:
        """See `Engine.choices`."""
        return [
            ", ".join(pair)
            for pair in itertools.product(("flash", "no flash"), ("repacked", "as in the file"))
        ]

    def choose(self, choice: str) -> None:
        """See `Engine.choose`."""
        self.choice = choice or self.choices()[0]

    def _model(self) -> Any:
        repacked = self.choice.endswith("repacked")
        if repacked not in self.models:
            parameters = self.c.llama_model_default_params()
            parameters.use_extra_bufts = repacked
            self.models[repacked] = self.c.llama_model_load_from_file(str(self.file).encode(), parameters)
            if not self.models[repacked]:
                raise RuntimeError(f"llama.cpp cannot load {self.file.name}")
        return self.models[repacked]

    def start(self, n_rows: int, n_slots: int) -> None:
        """See `Engine.start`."""
        key = (self.choice, n_rows, n_slots)
        if key not in self.contexts:
            flash = self.choice.startswith("flash")
            parameters = self.c.llama_context_default_params()
            parameters.n_ctx, parameters.n_seq_max = n_rows * n_slots, n_rows
            parameters.n_batch, parameters.n_ubatch = max(MICRO_BATCH, n_rows * n_slots), MICRO_BATCH
            parameters.n_threads = parameters.n_threads_batch = self.n_threads
            parameters.flash_attn_type = 1 if flash else 0
            self.contexts[key] = self.c.llama_init_from_model(self._model(), parameters)
            if not self.contexts[key]:
                raise RuntimeError(f"no context of {n_rows} x {n_slots} tokens ({self.choice})")
        self.context = self.contexts[key]
        self.c.llama_memory_clear(self.c.llama_get_memory(self.context), False)
        if self.batch is not None:
            self.c.llama_batch_free(self.batch)
        self.batch = self.c.llama_batch_init(n_rows * n_slots, 0, 1)
        self.n_fed = 0

    def feed(self, tokens_BT: Tokens, every: bool = False) -> Scores:
        """See `Engine.feed`."""
        B, T = tokens_BT.shape
        batch, n = self.batch, 0
        for b, row in enumerate(tokens_BT.tolist()):
            for t, token in enumerate(row):
                batch.token[n], batch.pos[n], batch.seq_id[n][0] = token, self.n_fed + t, b
                batch.n_seq_id[n], batch.logits[n] = 1, every or t == T - 1
                n += 1
        batch.n_tokens = n
        if self.c.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        self.n_fed += T
        n_scores, V = B * T if every else B, self.shape["vocab_size"]
        scores_NV = np.ctypeslib.as_array(self.c.llama_get_logits(self.context), (n_scores, V))
        return scores_NV.reshape(B, T, V).copy() if every else scores_NV


def gguf_file(work: Path, mode: str) -> Path:
    return work / f"{mode}.gguf"


def matrix_bytes(file: Path) -> int:
    """Of the matrices, as the file has them; the embedding is the output matrix too."""
    import gguf

    reader = gguf.GGUFReader(file)
    matrices = [t for t in reader.tensors if len(t.shape) == 2 and t.name != "position_embd.weight"]
    return sum(int(tensor.n_bytes) for tensor in matrices)


def write_gguf(model: Path, file: Path) -> None:
    """All weights in float32, no vocabulary: ids go in and out."""
    import gguf
    from safetensors.torch import load_file

    shape = json.loads((model / "config.json").read_text())
    tensors = load_file(model / "model.safetensors")
    weights = {name.removeprefix("transformer."): tensor.float().numpy() for name, tensor in tensors.items()}
    writer = gguf.GGUFWriter(file.with_suffix(".part"), "gpt2")
    writer.add_context_length(shape["n_positions"])
    writer.add_embedding_length(shape["n_embd"])
    writer.add_block_count(shape["n_layer"])
    writer.add_feed_forward_length(shape.get("n_inner") or 4 * shape["n_embd"])
    writer.add_head_count(shape["n_head"])
    writer.add_layer_norm_eps(shape["layer_norm_epsilon"])
    writer.add_file_type(FILE_TYPES["F32"])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(shape["vocab_size"])
    for name, target in gguf_names(shape["n_layer"]).items():
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in weights:
                weight = weights[f"{name}.{kind}"]
                stored_by_input = name.rpartition(".")[2].startswith("c_") and weight.ndim == 2
                weight = np.ascontiguousarray(weight.T) if stored_by_input else weight
                writer.add_tensor(f"{target}.{kind}", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file.with_suffix(".part").rename(file)


def gguf_names(n_layer: int) -> dict[str, str]:
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    parts = {
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    }
    for n in range(n_layer):
        names |= {f"h.{n}.{ours}": f"blk.{n}.{theirs}" for ours, theirs in parts.items()}
    return names


ENGINE = LlamaCpp
