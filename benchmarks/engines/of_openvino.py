"""OpenVINO: optimum-intel's stateful export, compressed by NNCF, run by a bare infer request."""

from pathlib import Path
from typing import Any

import numpy as np
from contract import Engine, Scores, Tokens


class OpenVino(Engine):
    """Modes: bf16, int8 (a scale a row) and int4 (a scale a group; embedding and output matrix in int8)."""

    packages = ("openvino", "optimum-intel", "nncf")

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        import openvino

        super().__init__(model, work, mode, n_threads)
        self.file = folder(work, mode) / "openvino_model.xml"
        self.core = openvino.Core()
        graph = self.core.read_model(self.file)
        self.weight_bytes = 2 * self.n_weights() if mode == "bf16" else matrix_bytes(graph)
        only_last(graph)
        self.graphs = {False: graph}  # by whether it gives scores after every token
        self.compiled: dict[tuple[bool, str], Any] = {}
        self.requests: dict[tuple[bool, str, int], Any] = {}  # each with a cache for one number of sequences
        self.numbers = ["bf16", "f16"] if mode == "bf16" else ["bf16", "f16", "f32"]
        self.choose("")

    def choices(self) -> list[str]:
        """See `Engine.choices`: the type of the numbers that are multiplied."""
        return self.numbers

    def choose(self, choice: str) -> None:
        """See `Engine.choose`."""
        self.choice = choice or self.numbers[0]

    def _compile(self, every: bool) -> Any:
        if every not in self.graphs:
            self.graphs[every] = self.core.read_model(self.file)
        settings = {
            "INFERENCE_PRECISION_HINT": self.choice,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.n_threads,
            "NUM_STREAMS": 1,
        }
        return self.core.compile_model(self.graphs[every], "CPU", settings)

    def _request(self, every: bool, n_rows: int) -> Any:
        if (every, self.choice) not in self.compiled:
            self.compiled[every, self.choice] = self._compile(every)
        key = (every, self.choice, n_rows)
        if key not in self.requests:
            self.requests[key] = self.compiled[every, self.choice].create_infer_request()
        return self.requests[key]

    @staticmethod
    def prepare(model: Path, work: Path, mode: str) -> None:
        """See `Engine.prepare`."""
        if folder(work, mode).exists():
            return
        from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
        from transformers import GPT2Config

        width = GPT2Config.from_pretrained(model).n_embd
        group = next(size for size in (128, 64, 32) if width % size == 0)
        compressed: dict[str, dict[str, Any]] = {
            "bf16": {"load_in_8bit": False},
            "int8": {"quantization_config": OVWeightQuantizationConfig(bits=8)},
            "int4": {"quantization_config": OVWeightQuantizationConfig(bits=4, group_size=group, ratio=1.0)},
        }
        exported = OVModelForCausalLM.from_pretrained(
            model, export=True, stateful=True, compile=False, **compressed[mode]
        )
        part = folder(work, f"{mode}.part")
        exported.save_pretrained(part)
        part.rename(folder(work, mode))

    def start(self, n_rows: int, n_slots: int) -> None:
        """See `Engine.start`."""
        self.n_fed = 0
        self.n_rows = n_rows
        self.attended = np.ones((n_rows, n_slots), np.int64)
        self.rows = np.arange(n_rows, dtype=np.int32)

    def feed(self, tokens_BT: Tokens, every: bool = False) -> Scores:
        """See `Engine.feed`."""
        request = self._request(every, self.n_rows)
        if self.n_fed == 0:
            request.reset_state()
        ended = self.n_fed + tokens_BT.shape[1]
        inputs = {
            "input_ids": np.ascontiguousarray(tokens_BT),
            "attention_mask": np.ascontiguousarray(self.attended[:, :ended]),
            "position_ids": np.tile(np.arange(self.n_fed, ended), (self.n_rows, 1)),
            "beam_idx": self.rows,
        }
        request.infer(inputs, share_inputs=True)
        self.n_fed = ended
        scores_BTV: Scores = request.get_tensor("logits").data
        return scores_BTV.copy() if every else scores_BTV[:, -1]


def folder(work: Path, mode: str) -> Path:
    return work / f"openvino-{mode}"


def only_last(graph: Any) -> None:
    """Let the output matrix see only the last token, as OpenVINO's own generation library does."""
    import openvino.opset13 as ops

    product = graph.output("logits").get_node().input_value(0).get_node()
    while product.get_type_name() != "MatMul":
        product = product.input_value(0).get_node()
    first, end, step, axis = (np.array([n], np.int64) for n in (-1, np.iinfo(np.int64).max, 1, 1))
    last = ops.slice(product.input_value(0), first, end, step, axis)
    product.input(0).replace_source_output(last.output(0))
    graph.validate_nodes_and_infer_types()


def matrix_bytes(graph: Any) -> int:
    """Of all numbers that come into matrix products as weights: codes, scales and zero points."""
    numbers: dict[str, int] = {}
    for node in graph.get_ops():
        if node.get_type_name() == "MatMul":
            above = [node.input_value(1).get_node()]
            while above:
                part = above.pop()
                if part.get_type_name() == "Constant":
                    bits = part.get_element_type().bitwidth * int(np.prod(part.get_output_shape(0)))
                    numbers[part.get_friendly_name()] = bits // 8
                above += [source.get_source_output().get_node() for source in part.inputs()]
    return sum(numbers.values())


ENGINE = OpenVino
