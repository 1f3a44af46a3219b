"""From sources to shards: the stages of a corpus, each a function over files, in the order of the funnel.

    read          source files -> documents
    filter        clean, language, quality, personal data: each document by itself
    fingerprints  what it takes to find duplicates
    exact         documents with the same words
    buckets, shingles, pairs, near    near-duplicates
    duplicates    the verdicts on each file's duplicates
    decontaminate    those on its documents that quote evaluation sets, where the recipe names some
    tokens        documents that are left, as token ids, by split
    shards        those, as shards

A corpus's folder holds `stages/` with a folder for each of them, `shards/` (what one trains on) and
`manifest.json` (from raw source to shard). Run again, it does what is not done yet or has changed.
"""

import fcntl
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_folder, make_folder, remove_leftovers, require_free_space, write_json
from gpt2lab.base.progress import Progress
from gpt2lab.base.toml_table import as_table
from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of
from gpt2lab.corpus import near_duplicates
from gpt2lab.corpus.build import TOKENIZER_FOLDER
from gpt2lab.corpus.evaluation_files import find_evaluation_files
from gpt2lab.corpus.exact_duplicates import exact_duplicates
from gpt2lab.corpus.filters import filter_file
from gpt2lab.corpus.fingerprints import PARTITION_DOCUMENTS, fingerprint_file
from gpt2lab.corpus.funnel import add_counts, as_json, funnel_rows
from gpt2lab.corpus.page_files import page_kind
from gpt2lab.corpus.recipe import CorpusRecipe, save_corpus_recipe
from gpt2lab.corpus.remote_files import RemoteFile, is_url
from gpt2lab.corpus.sources import PYTHON_DOCS, find_archives, find_files, read_file
from gpt2lab.corpus.stage import (
    STAGES_FOLDER,
    Counts,
    Done,
    FileFacts,
    Stage,
    Task,
    Workshop,
    file_facts,
    run_stage,
)
from gpt2lab.corpus.stage_files import KEPT_AND_DROPPED
from gpt2lab.corpus.token_files import shard_tasks, write_shard_file, write_tokens
from gpt2lab.corpus.verdicts import drop_contaminated_documents, drop_duplicates
from gpt2lab.corpus.workers import Runner
from gpt2lab.data.manifest import Manifest, ShardFacts, SplitFacts, load_manifest
from gpt2lab.data.split import SPLITS
from gpt2lab.tokenizer import Tokenizer

SHARDS_FOLDER, RECIPE_NAME, MANIFEST_NAME = "shards", "corpus.toml", "manifest.json"
FORMAT_VERSION = 1
_SPACE_FOR_TEXT, _SPACE_FOR_PAGES = 2, 0.2  # bytes of all stages for a byte of sources; more if it is packed


def build_corpus(
    recipe: CorpusRecipe, sources: Sequence[str], out: Path, *, runner: Runner, memory: int
) -> dict[str, Any]:
    """Build a corpus, or what of it is missing or has changed.

    Args:
        recipe: what becomes of the sources.
        sources: files, folders and URLs of web archives; none for a recipe that brings its own.
        out: the corpus's folder; made, or one that an earlier build made.
        runner: where the work is done.
        memory: bytes for each of its workers.

    Returns:
        What `manifest.json` holds.

    Raises:
        UserError: a source or an evaluation set is missing; `out` holds something else, or is being built by
            someone else; no document is left, or none in one of the splits; the disk is full or too small.
    """
    _require_ours(out)
    out = out.absolute()  # machines of a cluster have working directories of their own
    found = _find_sources(recipe, sources)
    evaluation = find_evaluation_files([Path(path).absolute() for path in recipe.decontaminate.against])
    _require_space(out, found)
    tokenizer = load_tokenizer_of(recipe.shards.tokenizer)
    make_folder(out)
    with _only_builder(out):
        remove_leftovers(out)
        save_corpus_recipe(recipe, out / RECIPE_NAME)
        names = list(sources) or [PYTHON_DOCS]
        return _Build(recipe, names, found, evaluation, tokenizer, Workshop(out, runner, memory)).run()


@dataclass(frozen=True)
class _Found:
    """What the sources stand for.

    Attributes:
        groups: files here with their names, those that are read by one task in a group.
        archives: web archives elsewhere, read one by one.
    """

    groups: list[list[tuple[Path, str]]]
    archives: list[RemoteFile]


class _Build:
    """One build: what its stages have in common."""

    def __init__(
        self,
        recipe: CorpusRecipe,
        sources: list[str],
        found: _Found,
        evaluation: list[Path],
        tokenizer: Tokenizer,
        workshop: Workshop,
    ) -> None:
        self.recipe = recipe
        self.sources = sources
        self.found = found
        self.evaluation = evaluation
        self.tokenizer = tokenizer
        self.out = workshop.folder
        self.workshop = workshop

    def run(self) -> dict[str, Any]:
        """All stages, and the manifest last."""
        sources = self._hash_sources()
        read = self._read(sources)
        documents = self._filter(read)
        near: Counts = {}
        verdicts = self._duplicates(documents, near)
        judged = [("duplicates", verdicts)]
        if self.evaluation:
            judged.append(("decontaminate", self._decontaminate(documents, verdicts)))
        tokens = self._tokens(documents, [done for _, done in judged])
        totals = add_counts(done.counts for done in tokens)
        dataset = self._shards(tokens, totals)
        for folder in (self.out, *(self.out / STAGES_FOLDER).iterdir()):
            if (
                folder.is_dir()
            ):  # a killed run's worker may have outlived it by a moment, and written into this one
                remove_leftovers(folder)
        rows = funnel_rows(_total(read), _total(documents), [(name, _total(done)) for name, done in judged])
        manifest = {
            "format_version": FORMAT_VERSION,
            "created_by": f"gpt2lab {gpt2lab.__version__}",
            "recipe": as_table(self.recipe),
            "sources": [
                {"file": str(file.path), "size": file.size, "sha256": file.sha256}
                for group in sources
                for file in group
            ]
            + [
                {"file": file.url, "size": file.size, "version": file.version} for file in self.found.archives
            ],
            "funnel": as_json(rows),
            "near_duplicates": near,
            "splits": totals,
            "tokenizer_fingerprint": self.tokenizer.fingerprint,
            "shards": [asdict(shard) for shard in dataset.shards],
        }
        write_json(self.out / MANIFEST_NAME, manifest)
        return manifest

    def _hash_sources(self) -> list[list[FileFacts]]:
        """What the source files are, in their groups."""
        paths = [file for group in self.found.groups for file, _ in group]
        facts: dict[Path, FileFacts] = {}
        with Progress(len(paths), "sources", "files") as progress:
            for _, fact in self.workshop.runner.map(file_facts, paths):
                facts[fact.path] = fact
                progress.advance()
        return [[facts[file] for file, _ in group] for group in self.found.groups]

    def _read(self, sources: list[list[FileFacts]]) -> list[Done]:
        table = self.recipe.read
        parameters = {"max_bytes": table.max_bytes, "extractor": table.extractor}
        stage = Stage("read", read_file, KEPT_AND_DROPPED, parameters)
        if self.recipe.read.source == "python-docs":
            own = {"names": [PYTHON_DOCS], "python": sys.version}
            return self._run(stage, [Task(PYTHON_DOCS, (), own)])
        here: list[tuple[tuple[FileFacts, ...], dict[str, Any]]] = [
            (tuple(facts), {"names": [name for _, name in group]})
            for facts, group in zip(sources, self.found.groups, strict=True)
        ]
        # An archive elsewhere is read once: its version stands for the hash, which takes a reading more.
        elsewhere = [
            ((), {"names": [file.url], "size": file.size, "version": file.version})
            for file in self.found.archives
        ]
        tasks = [Task(f"{number:05d}", *work) for number, work in enumerate([*here, *elsewhere])]
        return self._run(stage, tasks)

    def _filter(self, read: list[Done]) -> list[Done]:
        recipe = as_table(self.recipe)
        parameters = {name: recipe[name] for name in ("clean", "language", "quality", "personal_data")}
        stage = Stage("filter", filter_file, KEPT_AND_DROPPED, parameters)
        return self._run(stage, [Task(done.name, done.outputs[:1]) for done in read])

    def _duplicates(self, documents: list[Done], near: Counts) -> list[Done]:
        """The verdicts on duplicates; what is to be said of near-duplicates is put into `near`."""
        held = _numbered(documents)
        n_partitions = max(math.ceil(sum(done.counts["kept"] for done in documents) / PARTITION_DOCUMENTS), 1)
        threshold = self.recipe.duplicates.near_threshold
        parameters = {"partitions": n_partitions, "near": threshold > 0}
        stage = Stage("fingerprints", fingerprint_file, ("keys", "bands"), parameters)
        prints = self._run(stage, [Task(done.name, done.outputs[:1], place) for done, place in held])
        keys = tuple(done.outputs[0] for done in prints)
        partitions = [(f"{number:05d}", {"partition": number}) for number in range(n_partitions)]
        stage = Stage("exact", exact_duplicates, ("parquet",))
        exact = _outputs(self._run(stage, [Task(name, keys, own) for name, own in partitions]))
        inputs = exact
        if threshold > 0:
            bands = tuple(done.outputs[1] for done in prints)
            found = self._near(held, exact, bands, partitions, threshold)
            near.update(found.counts)
            inputs = (found.outputs[0], *exact)
        stage = Stage("duplicates", drop_duplicates, ("dropped.parquet",), {"near": threshold > 0})
        return self._run(stage, [Task(done.name, (done.outputs[0], *inputs), place) for done, place in held])

    def _near(
        self,
        held: list[tuple[Done, dict[str, int]]],
        exact: tuple[FileFacts, ...],
        bands: tuple[FileFacts, ...],
        partitions: list[tuple[str, dict[str, int]]],
        threshold: float,
    ) -> Done:
        """The stages of `near_duplicates`, one after another."""
        stage = Stage("buckets", near_duplicates.find_buckets, ("parquet",), {"exact_files": len(exact)})
        buckets = _outputs(self._run(stage, [Task(name, (*exact, *bands), own) for name, own in partitions]))
        stage = Stage("shingles", near_duplicates.write_shingles, ("parquet", "sets"))
        shingles = _outputs(
            self._run(stage, [Task(done.name, (done.outputs[0], *buckets), place) for done, place in held])
        )
        stage = Stage("pairs", near_duplicates.find_pairs, ("parquet",), {"threshold": threshold})
        tasks = [
            Task(name, (bucket, *shingles)) for (name, _), bucket in zip(partitions, buckets, strict=True)
        ]
        pairs = _outputs(self._run(stage, tasks))
        parameters = {"pair_files": len(pairs), "threshold": threshold}
        stage = Stage("near", near_duplicates.settle_groups, ("parquet",), parameters)
        return self._run(stage, [Task("all", (*pairs, *shingles))])[0]

    def _decontaminate(self, documents: list[Done], duplicates: list[Done]) -> list[Done]:
        sets = tuple(file_facts(file) for file in self.evaluation)
        parameters = {
            "min_words": self.recipe.decontaminate.min_words,
            "evaluation": [file.sha256 for file in sets],
        }
        stage = Stage("decontaminate", drop_contaminated_documents, ("dropped.parquet",), parameters)
        tasks = [
            Task(done.name, (done.outputs[0], verdict.outputs[0], *sets))
            for done, verdict in zip(documents, duplicates, strict=True)
        ]
        return self._run(stage, tasks)

    def _tokens(self, documents: list[Done], verdicts: Sequence[list[Done]]) -> list[Done]:
        self.tokenizer.save(self.out / TOKENIZER_FOLDER)
        vocabulary = file_facts(self.out / TOKENIZER_FOLDER / "tokenizer.json")
        parameters = {
            "validation_fraction": self.recipe.shards.validation_fraction,
            "fingerprint": self.tokenizer.fingerprint,
        }
        stage = Stage("tokens", write_tokens, tuple(f"{split}.bin" for split in SPLITS), parameters)
        tasks = [
            Task(done.name, (done.outputs[0], vocabulary, *(own.outputs[0] for own in judged)))
            for done, *judged in zip(documents, *verdicts, strict=True)
        ]
        return self._run(stage, tasks)

    def _shards(self, tokens: list[Done], totals: Counts) -> Manifest:
        """The shards, and `shards/`, which appears whole or not at all."""
        _require_both_splits(totals, self.recipe, self.sources)
        size, vocab_size = self.recipe.shards.shard_tokens, self.tokenizer.vocab_size
        tasks = []
        for index, split in enumerate(SPLITS):
            files = [(done.outputs[index], done.counts[split]["tokens"]) for done in tokens]
            tasks += shard_tasks(files, split, size, vocab_size)
        written = self._run(Stage("shards", write_shard_file, ("bin",)), tasks)
        manifest = Manifest(
            tokenizer_fingerprint=self.tokenizer.fingerprint,
            vocab_size=vocab_size,
            end_of_text=self.tokenizer.end_of_text,
            sources=tuple(self.sources),
            splits={split: SplitFacts(*totals[split].values()) for split in SPLITS},
            shards=tuple(_shard_facts(done) for done in written),
        )
        folder = self.out / SHARDS_FOLDER
        if not (folder / MANIFEST_NAME).exists() or load_manifest(folder) != manifest:
            with atomic_folder(folder) as temporary:
                for done in written:
                    _link(done.outputs[0].path, temporary / done.outputs[0].path.name)
                self.tokenizer.save(temporary / TOKENIZER_FOLDER)
                manifest.save(temporary)
        return manifest

    def _run(self, stage: Stage, tasks: list[Task]) -> list[Done]:
        return run_stage(stage, tasks, self.workshop)


def _find_sources(recipe: CorpusRecipe, sources: Sequence[str]) -> _Found:
    if recipe.read.source == "files":
        urls = [source for source in sources if is_url(source)]
        paths = [Path(source).absolute() for source in sources if not is_url(source)]
        return _Found(find_files(paths) if paths or not urls else [], find_archives(urls))
    if sources:
        raise UserError(
            "this recipe reads no files: its text is in this Python installation",
            where=sources[0],
            fix="Leave the sources out, or choose another recipe",
        )
    return _Found([], [])


def _total(done: list[Done]) -> Counts:
    return add_counts(one.counts for one in done)


def _outputs(done: list[Done]) -> tuple[FileFacts, ...]:
    return tuple(file for one in done for file in one.outputs)


def _numbered(documents: list[Done]) -> list[tuple[Done, dict[str, int]]]:
    """Every file of documents with the number of its first document in the corpus, and how many it holds."""
    held, first = [], 0
    for done in documents:
        held.append((done, {"first_number": first, "documents": done.counts["kept"]}))
        first += done.counts["kept"]
    return held


def _shard_facts(done: Done) -> ShardFacts:
    file = done.outputs[0]
    split = next(split for split in SPLITS if done.name.startswith(split))
    return ShardFacts(file.path.name, split, done.counts["tokens"], file.size, file.sha256)


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the disk knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _require_both_splits(totals: Counts, recipe: CorpusRecipe, sources: Sequence[str]) -> None:
    documents = {split: totals[split]["documents"] for split in SPLITS}
    if not any(documents.values()):
        raise UserError(
            "no document is left",
            where=", ".join(sources),
            fix="See in stages/*/*.dropped.parquet why they went; look for `reason`",
        )
    for split, count in documents.items():
        if not count:
            raise UserError(
                f"none of the {sum(documents.values()):,} documents fell into the {split!r} split",
                where=", ".join(sources),
                fix="Give more text, or change shards.validation_fraction "
                f"(it is {recipe.shards.validation_fraction:g})",
            )


def _require_ours(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RECIPE_NAME).exists())):
        raise UserError(
            "there is something here already that is no corpus",
            where=out,
            fix="Name a folder that does not exist yet, or one that `gpt2lab corpus build` made",
        )


def _require_space(out: Path, found: _Found) -> None:
    """Refuse sources whose stages cannot fit: they take twice the size of texts, and of pages far less."""
    sizes = [(file.stat().st_size, bool(page_kind(file))) for group in found.groups for file, _ in group]
    sizes += [(file.size, True) for file in found.archives]
    needed = sum(size * (_SPACE_FOR_PAGES if is_page else _SPACE_FOR_TEXT) for size, is_page in sizes)
    there = sum(file.stat().st_size for file in (out / STAGES_FOLDER).rglob("*") if file.is_file())
    require_free_space(out, round(needed) - there, "this corpus")


@contextmanager
def _only_builder(out: Path) -> Iterator[None]:
    """Keep others from building here; the lock goes with the process, however it ends."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                "another process is building here", where=out, fix="Wait for it, or choose another folder"
            ) from error
        yield
