import numpy as np

from kernels import arguments


def test_plain_arrays_are_taken_as_they_are_and_others_copied():
    array = np.ones((2, 3), np.float32)
    assert arguments.check("f", "x", array, "M,N", array.dtype) is array
    read_only = array.view()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    for other in (array.T, np.ma.array(array), read_only, unaligned):
        plain = arguments.check("f", "x", other, "M,N")
        assert type(plain) is np.ndarray and plain.flags.carray and not np.shares_memory(plain, array)
        np.testing.assert_array_equal(plain, other)
