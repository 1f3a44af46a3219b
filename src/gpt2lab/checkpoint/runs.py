"""Where in a training run's folder the models lie: `checkpoints/step-00000500/`, one a save."""

from pathlib import Path

from gpt2lab.base.errors import UserError


def checkpoint_folders(run: Path) -> list[Path]:
    """The checkpoints on disk, oldest first. A folder has this name only once it is whole."""
    return sorted((run / "checkpoints").glob("step-*"))


def model_folder(path: Path) -> Path:
    """`path` itself if it is a model directory; the newest checkpoint if it is a run's folder.

    Raises:
        UserError: it is a run's folder and has no checkpoint yet.
    """
    if (path / "config.json").exists() or not (path / "checkpoints").is_dir():
        return path
    folders = checkpoint_folders(path)
    if not folders:
        raise UserError("this run has saved no checkpoint yet", where=path, fix="Train it a little longer")
    return folders[-1]
