import ctypes
import os
import subprocess
import sys
from pathlib import Path

import kernels
from kernels.memory import keep_freed_memory

FAULTS = """
import resource, numpy as np, kernels
np.ones(2**19, np.float32), np.ones(2**19, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**19, np.float32), np.ones(2**19, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(**environment: str) -> int:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment
    folder = Path(kernels.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=folder, env=variables, capture_output=True, text=True, check=True
    )
    return int(result.stdout)


def test_freed_memory_is_kept_unless_the_user_has_decided():
    if os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return  # there is nothing to set
    pages = 40 * 2**21 // os.sysconf("SC_PAGE_SIZE")
    assert _page_faults() < pages / 10
    assert _page_faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") > pages / 2


def test_a_c_library_without_the_setting_is_no_error(monkeypatch):
    for absent in (AttributeError, OSError, TypeError):

        def library(name, absent=absent):
            raise absent

        monkeypatch.setattr(ctypes, "CDLL", library)
        keep_freed_memory()
