"""Cores and main memory that this process may use; light to import, for those who need no GPU."""

import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # where a container's own limits stand (version 2)


def available_cores() -> int:
    """Cores this process may run on (fewer than the machine has inside containers)."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def available_main_memory() -> int:
    """Bytes of main memory that could still be allocated, within a container's limit if there is one."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # macOS: assume half of what is installed
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _CGROUP / "memory.max"
    if not limit.exists() or limit.read_text().strip() == "max":
        return available
    statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    # File pages not in use are given up when memory is asked for, so they do not count as taken.
    taken = int((_CGROUP / "memory.current").read_text()) - int(statistics["inactive_file"])
    return max(0, min(available, int(limit.read_text()) - taken))
