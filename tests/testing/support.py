"""What the tests of the checkers share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tinygen.testing import CheckError, Inconclusive


@contextmanager
def rejected(error: type[CheckError], match: str | None = None) -> Iterator[None]:
    """A block that must raise ``error``, where no verdict is a failure too.

    ``pytest.raises`` would let an Inconclusive pass, by which hypothesis drops the example: a test in which nothing is
    ever caught could not fail.
    """
    with pytest.raises(error, match=match):
        try:
            yield
        except Inconclusive as verdict:
            pytest.fail(f"inconclusive where {error.__name__} was expected: {verdict}")
