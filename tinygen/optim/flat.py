"""Parameters side by side in one buffer, so that an update is one loop over memory."""

from collections.abc import Iterable

import numpy as np

from tinygen.errors import DTypeError
from tinygen.nn import Parameter


class FlatParameters:
    """Parameters whose arrays are views into one flat array, in their order.

    Attributes
    ----------
    parameters : each once
    data : the flat array
    ends, slices : where each parameter ends, and lies, in it
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = list({id(p): p for p in parameters}.values())
        dtypes = sorted({str(p.dtype) for p in self.parameters})
        if len(dtypes) != 1:
            raise DTypeError(
                f"parameters of one optimizer must share a dtype, got {', '.join(dtypes) or 'no parameters'}"
            )
        self.ends = np.cumsum([p.size for p in self.parameters], dtype=np.int64)
        self.slices = [slice(int(end) - p.size, int(end)) for p, end in zip(self.parameters, self.ends, strict=True)]
        self.data = np.empty(int(self.ends[-1]), dtypes[0])
        self.adopt()

    def adopt(self) -> None:
        """Make every parameter's array a view of the flat one again, should something have replaced it."""
        for p, where in zip(self.parameters, self.slices, strict=True):
            if p.data.base is not self.data:
                if p.dtype != self.data.dtype:
                    raise DTypeError(f"a parameter became {p.dtype} after its optimizer was made for {self.data.dtype}")
                self.data[where] = p.data.reshape(-1)
                p.data = self.data[where].reshape(p.shape)
