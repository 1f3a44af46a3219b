"""Run several `gpt2lab` command lines one after another in this process: torchrun's start is paid only once.

    torchrun --nproc-per-node 2 in_processes.py CODES "train a.toml --out a" "train a" ...

CODES is a file for the exit codes, which the first process writes.
"""

import json
import os
import sys
from pathlib import Path

import torch

from gpt2lab.cli.main import main


def exit_code(line: str) -> int:
    try:
        return main(line.split())
    except SystemExit as leaving:  # how all but the first process leave after a user's mistake
        return int(str(leaving.code))
    finally:
        if torch.distributed.is_initialized():  # after a mistake: there the process would end
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    codes = [exit_code(line) for line in sys.argv[2:]]
    if os.environ["RANK"] == "0":
        Path(sys.argv[1]).write_text(json.dumps(codes))
