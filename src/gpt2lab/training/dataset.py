"""The shards a run trains on: those its recipe names, or made from the text its recipe names."""

from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of
from gpt2lab.corpus.build import TOKENIZER_FOLDER, prepare
from gpt2lab.tokenizer import Tokenizer, load_tokenizer
from gpt2lab.training.recipe import DataConfig
from gpt2lab.training.run import RunFolder


def open_data(run: RunFolder, config: DataConfig) -> tuple[Path, Tokenizer | None]:
    """The folder of shards and the vocabulary that goes with it.

    Text is tokenised into the run's own folder, once; a folder of shards is used where it lies. Shards made
    here carry their vocabulary; for others it is `config.tokenizer`, or None if that is not at hand.

    Raises:
        UserError: there is no text there, or no vocabulary to tokenise it with.
    """
    source = Path(config.path)
    if not source.exists() and not run.data_path.exists():
        raise UserError("no such file or folder", where=source, fix="Check the spelling of --data.path")
    if source.is_dir() and any(source.glob("*.bin")):
        return source, _tokenizer_of_shards(source, config)
    if not run.data_path.exists():
        prepare([source], load_tokenizer_of(config.tokenizer), run.data_path, config.validation_fraction)
    return run.data_path, load_tokenizer(run.data_path / TOKENIZER_FOLDER)


def _tokenizer_of_shards(folder: Path, config: DataConfig) -> Tokenizer | None:
    if (folder / TOKENIZER_FOLDER).exists():
        return load_tokenizer(folder / TOKENIZER_FOLDER)
    try:
        return load_tokenizer_of(config.tokenizer)
    except UserError:
        return None  # published shards can be trained on without their vocabulary; only samples need it
