"""Published figures of accelerators: what they compute at best, what they hold, what an hour was sold for.

FLOP/s are dense ones of bfloat16 matrix products with float32 sums (of float32 ones where said), from the
makers' documents; where those print a figure "with sparsity" it is halved. Prices are quoted with their place
and date, or absent: nobody's guess is kept here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_TERA, _GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Accelerator:
    """One product.

    Args:
        name: what people call it, and type.
        sign: a pattern found in the name that its driver gives.
        flops: dense FLOP/s in `precision`.
        memory: bytes.
        bandwidth: bytes/s.
        source: where these stand.
        price: US dollars an hour for one, where a source gives it.
        price_source: that source, with its date.
        precision: that training takes: bfloat16, or float32 where there is none.
    """

    name: str
    sign: str
    flops: float
    memory: float
    bandwidth: float
    source: str
    price: float | None = None
    price_source: str = ""
    precision: Literal["bfloat16", "float32"] = "bfloat16"


ACCELERATORS: Mapping[str, Accelerator] = {
    accelerator.name: accelerator
    for accelerator in (
        Accelerator(
            "rtx-3090",
            r"RTX 3090(?! Ti)",
            71 * _TERA,
            24 * _GIGA,
            936 * _GIGA,
            "NVIDIA Ampere GA102 white paper, appendix A",
        ),
        Accelerator(
            "rtx-4090",
            r"RTX 4090(?! D)",
            165.2 * _TERA,
            24 * _GIGA,
            1008 * _GIGA,
            "NVIDIA Ada GPU architecture white paper, appendix A",
        ),
        Accelerator(
            "t4",
            r"\bT4\b",
            8.1 * _TERA,
            16 * _GIGA,
            320 * _GIGA,
            "NVIDIA T4 data sheet; float32",
            precision="float32",
        ),
        Accelerator("l4", r"\bL4\b", 121 * _TERA, 24 * _GIGA, 300 * _GIGA, "NVIDIA L4 data sheet"),
        Accelerator(
            "a100-40gb",
            r"A100.*40GB",
            312 * _TERA,
            40 * _GIGA,
            1555 * _GIGA,
            "NVIDIA A100 data sheet",
        ),
        Accelerator(
            "a100-80gb",
            r"A100.*80GB",
            312 * _TERA,
            80 * _GIGA,
            2039 * _GIGA,
            "NVIDIA A100 data sheet (SXM)",
            14 / 8,
            "llm.c, scripts/run_gpt2_124M.sh, July 2024: $14 an hour for eight",
        ),
        Accelerator(
            "h100",
            r"H100(?!.*(PCIe|NVL))",
            989.4 * _TERA,
            80 * _GIGA,
            3350 * _GIGA,
            "NVIDIA H100 data sheet (SXM)",
            28 / 8,
            "llm.c, scripts/run_gpt2_1558M.sh, July 2024: $28 an hour for eight",
        ),
        Accelerator(
            "h100-pcie", r"H100.*PCIe", 756 * _TERA, 80 * _GIGA, 2000 * _GIGA, "NVIDIA H100 data sheet (PCIe)"
        ),
        Accelerator("h200", r"H200", 989.4 * _TERA, 141 * _GIGA, 4800 * _GIGA, "NVIDIA H200 data sheet"),
    )
}


def accelerator_named(label: str) -> Accelerator | None:
    """The product that a driver calls `label` (``"NVIDIA A100-SXM4-80GB"``); None where it is not known."""
    return next((found for found in ACCELERATORS.values() if re.search(found.sign, label)), None)
