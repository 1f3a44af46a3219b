#!/usr/bin/env bash
# Install PyTorch into a virtual environment without gigabytes of CUDA where no NVIDIA GPU is there to use them.
# usage: tools/install_torch.sh PYTHON CONSTRAINTS
set -euo pipefail
python=$1
constraints=$2
pin=$(grep -E '^torch==' "$constraints")

if "$python" -c 'import torch' 2>/dev/null; then
    exit 0
fi
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

if [ "$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1; then
    # The configured index may hold a CPU build already: its version ends in +cpu.
    if pip install --quiet --dry-run --no-deps --report - "$pin" 2>/dev/null | grep -q '"version": *"[^"]*+cpu"'; then
        echo "installing PyTorch (CPU build)"
        exec "$python" -m pip --disable-pip-version-check install --quiet "$pin"
    fi
    echo "installing PyTorch (looking for the CPU build, about 200 MB)"
    if PIP_DEFAULT_TIMEOUT=10 pip install --quiet --retries 0 -c "$constraints" "$pin" \
        --index-url https://download.pytorch.org/whl/cpu 2>/dev/null; then
        exit 0
    fi
    echo "no CPU build within reach; the configured index has the large one, with CUDA (several GB)"
else
    echo "installing PyTorch"
fi
pip install --quiet -c "$constraints" "$pin"
