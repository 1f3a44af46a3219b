"""The same work on a cluster: Daft hands each task to a process, on this machine or on a Ray cluster.

The tasks are files to files, so all machines must see the corpus's folder and the sources under the same
names (a network disk); nothing else travels but the tasks and their counts.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.workers import Answer, answer_to

Backend = Literal["daft", "ray"]


class Cluster:
    """Runs work through Daft.

    Args:
        backend: "daft" uses processes of this machine, "ray" a Ray cluster: the one that RAY_ADDRESS names,
            or else one that is started here and ends with this process.
        workers: processes on each machine.

    Raises:
        UserError: Daft or Ray is not installed.
    """

    def __init__(self, backend: Backend, workers: int) -> None:
        self.workers = workers
        # Read when Daft is imported: neither its makers nor their host are told of it, and no bars are drawn.
        os.environ |= {"DAFT_ANALYTICS_ENABLED": "0", "SCARF_NO_ANALYTICS": "true", "DAFT_PROGRESS_BAR": "0"}
        self._daft = import_extra("daft", "cluster")
        if backend == "ray":
            import_extra("ray", "cluster")
            self._daft.set_runner_ray(address=os.environ.get("RAY_ADDRESS"))
            logging.getLogger("ray").setLevel(logging.WARNING)
        else:
            self._daft.set_runner_native()

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See `workers.Runner.map`. Results come in the order of the arguments.

        Raises:
            UserError: what `function` raises.
        """
        if not arguments:
            return
        daft = self._daft

        @daft.cls(use_process=True, max_concurrency=self.workers)
        class Worker:
            @daft.method(return_dtype=daft.DataType.binary())  # type: ignore[untyped-decorator]
            def answer(self, call: bytes) -> bytes:
                return pickle.dumps(answer_to(*pickle.loads(call)))

        calls = [pickle.dumps((function, argument)) for argument in arguments]
        frame = daft.from_pydict({"index": list(range(len(calls))), "call": calls}).into_batches(1)
        answers = frame.select("index", Worker().answer(frame["call"]).alias("answer"))
        for batch in answers.to_arrow_iter():
            for row in batch.to_pylist():
                answer: Answer = pickle.loads(row["answer"])
                yield row["index"], answer.result()
