"""The shards a run trains on: a folder of them, published ones, or made from the text its recipe names."""

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.base.hub_dataset import HubDataset
from gpt2lab.checkpoint.hub import is_hub_id
from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of
from gpt2lab.corpus.build import TOKENIZER_FOLDER, prepare
from gpt2lab.corpus.documents import known_kind, known_kinds, read_documents
from gpt2lab.data.published import PublishedShards
from gpt2lab.tokenizer import Tokenizer, load_tokenizer, train_bpe
from gpt2lab.training.live import say
from gpt2lab.training.recipe import DataConfig, Recipe
from gpt2lab.training.run import RunFolder


def open_data(run: RunFolder, recipe: Recipe) -> tuple[Path | PublishedShards, Tokenizer | None]:
    """The shards and the vocabulary that goes with them.

    Text is tokenised into the run's own folder, once; a folder of shards is used where it lies, and published
    shards are fetched as they are read. Shards made here carry their vocabulary; for others it is
    `data.tokenizer`, or None if that is not at hand.

    Raises:
        UserError: there is no text there, or no vocabulary to tokenise it with; the disk has no room for what
            the run will fetch.
    """
    config = recipe.data
    source = Path(config.path)
    if run.data_path.exists():
        return run.data_path, load_tokenizer(run.data_path / TOKENIZER_FOLDER)
    if source.is_dir() and any(source.glob("*.bin")):
        return source, _tokenizer_of_shards(source, config)
    if source.exists():
        return _made(run, recipe, [source])
    if not is_hub_id(config.path):
        raise UserError("no such file or folder", where=source, fix="Check the spelling of --data")
    hub = HubDataset.open(config.path)
    published = PublishedShards(hub)
    if published.names("train"):
        windows, _ = recipe.batch_sizes.span(recipe.schedule.steps)
        # With `minutes` the number of steps is not known yet; then only the first shard is sure to be read.
        published.announce(1 if recipe.minutes else windows * recipe.model.context_length)
        return published, _tokenizer_of_shards(hub.folder, config)
    return _made(run, recipe, _fetched_texts(hub, config.files))


def _fetched_texts(hub: HubDataset, pattern: str) -> list[Path]:
    """The files of text in a dataset on the Hub, all of them fetched.

    Raises:
        UserError: there are none, or the disk has no room.
    """
    names = [name for name in hub.files if known_kind(Path(name)) and not _is_page(name)]
    if pattern:
        names = fnmatch.filter(names, pattern)
    if not names:
        raise UserError(
            f"none of its {len(hub.files):,} files is text to train on"
            + (f" and matches {pattern!r}" if pattern else ""),
            where=hub.repo,
            fix=f"The kinds are {known_kinds()}, and token shards (.bin); choose another dataset"
            + (", or another --data.files" if pattern else ""),
        )
    hub.announce(names, "now")
    return [hub.fetch(name) for name in names]


def _is_page(name: str) -> bool:
    """Whether a file is the dataset's own description rather than a text of it."""
    return Path(name).name.upper() in ("README.MD", "README.TXT", "LICENSE.TXT", "LICENSE.MD")


def _made(run: RunFolder, recipe: Recipe, texts: Sequence[Path]) -> tuple[Path, Tokenizer]:
    """Shards made from text, in the run's folder."""
    tokenizer = load_tokenizer_of(recipe.data.tokenizer) if recipe.data.tokenizer else _learned(recipe, texts)
    prepare(texts, tokenizer, run.data_path, recipe.data.validation_fraction)
    return run.data_path, load_tokenizer(run.data_path / TOKENIZER_FOLDER)


def _learned(recipe: Recipe, texts: Sequence[Path]) -> Tokenizer:
    """A vocabulary of the model's size, learned from the text itself (held-out documents included)."""
    say(f"learning a vocabulary of {recipe.model.vocab_size:,} tokens from the text")
    return train_bpe(_texts(texts), recipe.model.vocab_size)


def _texts(paths: Sequence[Path]) -> Iterator[str]:
    return (document.text for document in read_documents(paths))


def _tokenizer_of_shards(folder: Path, config: DataConfig) -> Tokenizer | None:
    if (folder / TOKENIZER_FOLDER).exists():
        return load_tokenizer(folder / TOKENIZER_FOLDER)
    try:
        return load_tokenizer_of(config.tokenizer)
    except UserError:
        return None  # published shards can be trained on without their vocabulary; only samples need it
