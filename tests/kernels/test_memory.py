import ctypes
import os

import pytest

from kernels.memory import keep_freed_memory
from tests.kernels.support import run_python

FAULTS = """
import resource, numpy as np, kernels
np.ones(2**18, np.float32), np.ones(2**18, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**18, np.float32), np.ones(2**18, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(**environment: str) -> int:
    return int(run_python(FAULTS, **environment).stdout)


def test_freed_memory_is_kept_unless_the_user_has_decided():
    if os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no such setting")
    pages = 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert _page_faults() < pages / 10
    assert _page_faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") > pages / 2


def test_a_c_library_without_the_setting_is_no_error(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    for absent in (AttributeError, OSError, TypeError):

        def library(name, absent=absent):
            raise absent

        monkeypatch.setattr(ctypes, "CDLL", library)
        keep_freed_memory()
