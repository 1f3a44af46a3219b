"""`gpt2lab demo`: from the English inside this Python installation to a model that speaks, and a report.

Every stage is the function that the full recipes call, and leaves a file; a demo that was stopped goes on
where it was:

    documents/    documents.jsonl, cleaned and without duplicates, and counts.json
    tokenizer/    a byte-level BPE vocabulary learned from the training documents
    shards/       training and held-out tokens
    run/          the training run
    loss.png      its loss curve
    report.html   what came of it, for people; report.json, the same for programs
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from gpt2lab.app.plots import loss_plot
from gpt2lab.app.report import DataFacts, DemoReport, Sample, VocabularyFacts, write_report
from gpt2lab.app.sampler import write_sample
from gpt2lab.audit.copying import TrainingText
from gpt2lab.base.files import atomic_folder, make_folder, read_json, remove_leftovers, write_json
from gpt2lab.base.progress import format_duration
from gpt2lab.checkpoint.huggingface import load
from gpt2lab.corpus.build import build_shards
from gpt2lab.corpus.clean import clean_documents
from gpt2lab.corpus.dedup import remove_duplicates, remove_repeated_paragraphs
from gpt2lab.corpus.documents import Document, read_documents, write_documents
from gpt2lab.corpus.overlap import shared_ngrams
from gpt2lab.corpus.python_docs import DOCUMENT_RULES, PARAGRAPH_RULES, read_python_docs
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.split import split_of
from gpt2lab.evaluation.compression import measure_compression
from gpt2lab.generation.engine import complete
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer, load_tokenizer, train_bpe
from gpt2lab.training.launch import start
from gpt2lab.training.recipe import Recipe, load_recipe
from gpt2lab.training.run import RunFolder
from gpt2lab.training.validate import bytes_of_tokens, validate_all

HELD_OUT_SHARE = 0.06
TEMPERATURES = (0.5, 0.8, 1.0)
PROMPTS = ("The function returns", "If the file does not exist,", "")
_SEED = 1
T = TypeVar("T")


def run_demo(out: Path, recipe: Recipe) -> DemoReport:
    """Run the stages that `out` does not hold yet, then write and return the report.

    Args:
        out: the demo's folder.
        recipe: `demo_recipe()`, changed as you like; it decides only a training that has not begun.

    Raises:
        UserError: see the stages. `KeyboardInterrupt`: training was stopped; it is saved, and goes on next
            time.
    """
    make_folder(out)
    remove_leftovers(out)
    stages = _Stages()
    documents = stages.run("reading and cleaning", lambda: _documents(out / "documents"))
    training, held_out = _split(documents)
    vocab_size = recipe.model.vocab_size
    tokenizer = stages.run(
        "learning a vocabulary", lambda: _tokenizer(out / "tokenizer", training, vocab_size)
    )
    stages.run("tokenising", lambda: _shards(out / "shards", documents, tokenizer))
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, path=str(out / "shards")))
    run = RunFolder(out / "run")
    result = stages.run("training", lambda: start(recipe, run.path, resume=True, sampler=write_sample))
    if not result.finished:
        raise KeyboardInterrupt
    report = stages.run("measuring and writing", lambda: _report(out, run, training, held_out, tokenizer))
    report = dataclasses.replace(report, stage_seconds=stages.seconds)
    write_json(out / "report.json", dataclasses.asdict(report))
    loss_plot(report.metrics, out / "loss.png")
    write_report(report, out / "report.html")
    return report


def demo_recipe() -> Recipe:
    """The recipe of the demo's model."""
    return load_recipe("demo")


class _Stages:
    """Announces stages and keeps their times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, stage: Callable[[], T]) -> T:
        """Do one stage; returns what it returns."""
        print(f"{len(self.seconds) + 1}/5 {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        value = stage()
        self.seconds[name] = time.monotonic() - started
        print(f"    {format_duration(self.seconds[name])}", file=sys.stderr, flush=True)
        return value


def _documents(folder: Path) -> list[Document]:
    """The embedded corpus, cleaned and without duplicates."""
    if not folder.exists():
        read = list(read_python_docs())
        clean, _ = clean_documents(read, paragraph_rules=PARAGRAPH_RULES, document_rules=DOCUMENT_RULES)
        distinct = remove_duplicates(clean)
        unrepeated = remove_repeated_paragraphs(distinct.kept)
        # A document whose paragraphs mostly stand elsewhere may be too short to keep now.
        kept, _ = clean_documents(unrepeated.kept, document_rules=DOCUMENT_RULES)
        with atomic_folder(folder) as temporary:
            write_documents(temporary / "documents.jsonl", kept)
            counts = {
                "documents_read": len(read),
                "bytes_read": _size(read),
                "duplicate_documents": len(distinct.dropped),
                "repeated_paragraphs": len(unrepeated.dropped),
            }
            write_json(temporary / "counts.json", counts)
    return list(read_documents([folder / "documents.jsonl"]))


def _split(documents: Iterable[Document]) -> tuple[list[Document], list[Document]]:
    """Training and held-out documents: whole modules and topics, by a hash of their names."""
    parts: dict[str, list[Document]] = {"train": [], "val": []}
    for document in documents:
        parts[split_of(document.id, HELD_OUT_SHARE)].append(document)
    return parts["train"], parts["val"]


def _size(documents: Iterable[Document]) -> int:
    return sum(len(document.text.encode()) for document in documents)


def _tokenizer(folder: Path, training: list[Document], vocab_size: int) -> Tokenizer:
    if not folder.exists():
        tokenizer = train_bpe((document.text for document in training), vocab_size)
        with atomic_folder(folder) as temporary:
            tokenizer.save(temporary)
    return load_tokenizer(folder)


def _shards(folder: Path, documents: list[Document], tokenizer: Tokenizer) -> None:
    if not folder.exists():
        sources = ["the documentation inside this Python installation"]
        build_shards(documents, tokenizer, folder, validation_fraction=HELD_OUT_SHARE, sources=sources)


def _report(
    out: Path, run: RunFolder, training: list[Document], held_out: list[Document], tokenizer: Tokenizer
) -> DemoReport:
    """Measure the trained model and gather everything the report shows."""
    model, _ = load(run.path)
    dataset = TokenDataset.open(out / "shards", "val", vocab_size=tokenizer.vocab_size)
    validation = validate_all(model, dataset, bytes_of_tokens(tokenizer))
    held_out_text = "\n\n".join(document.text for document in held_out)
    training_text = "\n\n".join(document.text for document in training)
    facts = run.facts()
    assert facts is not None
    assert validation.bits_per_byte is not None
    return DemoReport(
        recipe=dataclasses.asdict(run.recipe()),
        facts=facts,
        metrics=run.metrics(),
        data=_data_facts(out, training, held_out),
        vocabulary=_vocabulary_facts(tokenizer, dataset, held_out_text),
        bits_per_byte=validation.bits_per_byte,
        held_out_loss=validation.loss,
        compression=measure_compression(held_out_text.encode(), training_text.encode()),
        samples=_samples(model, tokenizer, training),
        stage_seconds={},
    )


def _data_facts(out: Path, training: list[Document], held_out: list[Document]) -> DataFacts:
    counts = read_json(out / "documents" / "counts.json")
    return DataFacts(
        **counts,
        training_documents=len(training),
        training_bytes=_size(training),
        held_out_documents=len(held_out),
        held_out_bytes=_size(held_out),
        shared_8_grams=shared_ngrams(held_out, training, 8),
        shared_13_grams=shared_ngrams(held_out, training, 13),
    )


def _vocabulary_facts(tokenizer: Tokenizer, dataset: TokenDataset, held_out_text: str) -> VocabularyFacts:
    pieces = tokenizer.token_bytes()
    sentence = next(line for line in held_out_text.splitlines() if 80 < len(line) < 160 and line[0].isupper())
    longest = sorted((piece for piece in pieces if piece.isascii()), key=len, reverse=True)[:12]
    assert dataset.text_bytes is not None
    return VocabularyFacts(
        size=tokenizer.vocab_size,
        bytes_per_token=dataset.text_bytes / dataset.n_tokens,
        example=[pieces[token].decode("utf-8", "replace") for token in tokenizer.encode(sentence)],
        longest=[piece.decode() for piece in longest],
    )


def _samples(model: GPT, tokenizer: Tokenizer, training: list[Document]) -> list[Sample]:
    """Every prompt at every temperature, each with the longest span it shares with the training text."""
    cases = [(prompt, temperature) for prompt in PROMPTS for temperature in TEMPERATURES]
    texts = []
    for prompt, temperature in cases:
        options = SamplingOptions(max_new_tokens=100, temperature=temperature, seed=_SEED)
        texts.append(complete(model, tokenizer, [prompt], options)[0].text)
    spans = TrainingText([document.text for document in training]).longest_copied_spans(texts)
    return [
        Sample(prompt, temperature, _SEED, text, span.start, len(span.text), span.words)
        for (prompt, temperature), text, span in zip(cases, texts, spans, strict=True)
    ]
