"""A user's own files: what is written comes back, and every bad file is named with what is wrong and the fix."""

import gzip
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tinygen.data import load
from tinygen.data.idx import read_idx
from tinygen.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}

# One folder serves all examples of a test: each overwrites the same file.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def rejected(complaint: str, path: Path, **options: object) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        load(path, **options)
    assert path.name in str(caught.value)


SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


@one_folder
@given(
    array=st.sampled_from(list(CODES)).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES, fill=st.nothing())),
    compressed=st.booleans(),
)
def test_idx_round_trip(tmp_path: Path, array: np.ndarray, compressed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    back = read_idx(path)
    np.testing.assert_array_equal(back, array)
    assert back.dtype.newbyteorder("=") == array.dtype


@one_folder
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(0, 80), compressed=st.booleans())
def test_idx_of_another_length(tmp_path: Path, seed: int, length: int, compressed: bool) -> None:
    whole = idx(pixels(seed, 2, 6, 5))  # 4 bytes of magic number, 12 of sizes, 60 of pixels
    content = (whole + bytes(4))[:length]
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compressed else content)
    if length == len(whole):
        assert load(path).x.shape == (2, 6, 5, 1)
    elif length > len(whole):
        rejected(f"60 in all, but {length - 16} follow: the file is too long", path)
    elif length >= 16:
        rejected(f"60 in all, but {length - 16} follow: the file is truncated", path)
    elif length >= 4:
        rejected(f"the header of 3 axes takes 16 bytes but the file has {length}", path)
    else:
        rejected("not an IDX file", path)


@one_folder
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.02, 0.98))
def test_idx_damaged_gzip(tmp_path: Path, seed: int, share: float) -> None:
    content = gzip.compress(idx(pixels(seed, 2, 6, 5)))
    (tmp_path / "images.gz").write_bytes(content[: max(2, int(share * len(content)))])
    rejected("gzip data are damaged", tmp_path / "images.gz")


@pytest.mark.parametrize("magic", [b"", b"\0\0", b"\0\0\x0a\x03", b"\x03\x08\0\0", b"PK\x03\x04", b"\0\1\x08\x03"])
def test_idx_wrong_magic_number(tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "images").write_bytes(magic + (bytes(100) if len(magic) == 4 else b""))
    rejected(f"magic number is {magic.hex() or 'missing'}", tmp_path / "images")


def test_idx_images_with_labels(tmp_path: Path) -> None:
    images, labels = pixels(1, 7, 6, 4), pixels(2, 7)
    (tmp_path / "images").write_bytes(idx(images))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx(labels)))
    data = load(tmp_path / "images", labels=tmp_path / "labels.gz", size=3)
    assert data.x.shape == (7, 3, 2, 1)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.labels.dtype == np.int64
    np.testing.assert_allclose(load(str(tmp_path / "images")).x[..., 0] * 255, images, rtol=2**-22)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.arange(6), r"labels have shape \(6,\) but there are N=7"),
        (np.zeros((7, 2), int), r"labels have shape \(7, 2\)"),
        (np.full(7, 0.5), "labels are of dtype float64"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray, complaint: str) -> None:
    np.save(tmp_path / "x.npy", pixels(0, 7, 3, 3))
    np.save(tmp_path / "labels.npy", labels)
    rejected(complaint, tmp_path / "x.npy", labels=tmp_path / "labels.npy")
    np.savez(tmp_path / "x.npz", x=pixels(0, 7, 3, 3), labels=labels)
    rejected(complaint, tmp_path / "x.npz")


@one_folder
@given(
    array=hnp.arrays(
        st.sampled_from(["f4", "f8", ">f8", "i2", "?"]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements={"min_value": -1000, "max_value": 1000},
        fill=st.nothing(),
    ),
    fortran=st.booleans(),
)
def test_numbers_are_taken_as_they_are(tmp_path: Path, array: np.ndarray, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    np.save(tmp_path / "x.npy", array)
    np.savez_compressed(tmp_path / "x.npz", anything=array)
    for name in ("x.npy", "x.npz"):
        data = load(tmp_path / name)
        np.testing.assert_array_equal(data.x, array.astype(np.float32))
        assert data.x.dtype == np.float32
        assert data.x.dtype.isnative
        assert data.x.flags.c_contiguous
        assert data.labels is None
        assert data.name == name


def test_bytes_are_pixels(tmp_path: Path) -> None:
    images = pixels(3, 4, 5, 6, 3)
    np.savez(tmp_path / "x.npz", x=images, labels=np.arange(4, dtype=np.uint8), other=np.zeros(3))
    data = load(tmp_path / "x.npz")
    np.testing.assert_array_equal(data.x, images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(data.labels, range(4))


BAD_ARRAYS = {
    "nan": (np.array([[0.0, 1.0], [np.nan, np.inf]]), r"2 of 4 entries are not finite .* index \(1, 0\): nan"),
    "overflow": (np.array([[0.0, 1e300]]), r"1 of 2 entries are not finite in float32, .* index \(0, 1\): 1e\+300"),
    "no example": (np.zeros((0, 28, 28), np.uint8), r"shape \(0, 28, 28\) holds no example"),
    "no pixel": (np.zeros((3, 0)), "holds no example"),
    "one axis": (np.zeros(5), r"shape \(5,\) must have an axis of examples"),
    "complex": (np.zeros((2, 2), complex), "dtype complex128"),
    "text": (np.array([["a", "b"]]), "dtype <U1"),
    "objects": (np.array([[None, {}]]), "not a file of plain numeric arrays"),
}


@pytest.mark.parametrize(("array", "complaint"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, array: np.ndarray, complaint: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    rejected(complaint, tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=array)
    rejected(complaint, tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_not_numpy_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(40), b"\x93NUMPY\x01\0"):
        path.write_bytes(content)
        rejected("not a file of plain numeric arrays", path)


@one_folder
@given(data=st.data(), suffix=st.sampled_from(["npy", "npz"]))
def test_truncated_numpy_files(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    (np.save if suffix == "npy" else np.savez_compressed)(path, pixels(5, 3, 4, 4))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    rejected("not a file of plain numeric arrays", path)


def test_several_arrays_without_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    rejected(r"one array must be named 'x' .* \['a', 'b'\]", tmp_path / "x.npz")


def test_numpy_files_with_each_others_suffix(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    np.savez(tmp_path / "b.npz", np.zeros((2, 2)))
    rejected("rename it to end in .npy", (tmp_path / "a.npy").rename(tmp_path / "a.npz"))
    rejected("rename it to end in .npz", (tmp_path / "b.npz").rename(tmp_path / "b.npy"))


def write_pictures(folder: Path, pictures: np.ndarray) -> None:
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03}.png")


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_folder_round_trip(tmp_path: Path, channels: tuple[int, ...]) -> None:
    pictures = pixels(6, 11, 6, 4, *channels)
    write_pictures(tmp_path, pictures)
    (tmp_path / "notes.txt").write_text("not a picture")
    data = load(tmp_path)
    np.testing.assert_allclose(data.x * 255, pictures.reshape(11, 6, 4, -1), rtol=2**-22)
    assert data.x.dtype == np.float32
    assert data.labels is None
    assert load(tmp_path, size=3).x.shape == (11, 3, 2, *(channels or (1,)))


def test_folder_of_jpegs_and_pngs(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 16, dtype=np.uint8)[:, None, None], (16, 16, 3))
    for name in ("a.jpg", "b.JPEG", "c.png"):
        Image.fromarray(ramp).save(tmp_path / name)
        ramp = ramp[::-1]
    data = load(tmp_path)
    np.testing.assert_allclose(data.x, np.stack([ramp[::-1], ramp, ramp[::-1]]) / 255, atol=0.03)  # JPEG is lossy


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    rejected("the folder has no picture", tmp_path)


def test_pictures_of_two_sizes(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(7, 2, 6, 4, 3))
    Image.fromarray(pixels(8, 6, 5, 3)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match=r"odd.png: \(H,W,C\)=\(6, 5, 3\) but 000.png has \(6, 4, 3\)"):
        load(tmp_path)
    Image.fromarray(pixels(8, 6, 4)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match=r"odd.png: \(H,W,C\)=\(6, 4, 1\) but 000.png has \(6, 4, 3\)"):
        load(tmp_path)


def test_damaged_picture(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(9, 3, 6, 4, 3))
    content = (tmp_path / "001.png").read_bytes()
    for damaged in (b"", b"hello", content[:20], content[: len(content) // 2]):
        (tmp_path / "001.png").write_bytes(damaged)
        with pytest.raises(DataError, match=r"001.png: not a readable picture"):
            load(tmp_path)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


@one_folder
@given(
    samples=hnp.arrays("<i2", st.tuples(st.integers(1, 50), st.integers(1, 3)), fill=st.nothing()),
    rate=st.integers(1, 96000),
)
def test_wav_round_trip(tmp_path: Path, samples: np.ndarray, rate: int) -> None:
    write_wav(tmp_path / "sound.wav", samples, rate)
    sound = load(tmp_path / "sound.wav")
    assert sound.x.dtype == np.float32
    assert sound.rate == rate
    np.testing.assert_array_equal(sound.x * 32768, samples[None])


def test_bad_wav(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_wav(path, np.full((4, 1), 7, np.uint8), 8000)
    rejected("samples have 8 bits but must have 16", path)
    write_wav(path, np.full((50, 2), 7, "<i2"), 8000)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    rejected("header announces 50 samples but 40 follow", path)
    for damaged in (b"", b"hello", content[:30]):
        path.write_bytes(damaged)
        rejected("not an uncompressed WAV file", path)
    write_wav(path, np.zeros((0, 1), "<i2"), 8000)
    rejected("holds no example", path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digts", "did you mean 'digits'?"),
        ("fashon", "did you mean 'fashion'?"),
        ("moons", "use toy('moons')"),
        ("no/such/file.npy", "neither a file nor a data set (digits, fashion)"),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(DataError, match=re.escape(hint)) as caught:
        load(name)
    assert repr(name) in str(caught.value)


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    rejected("is one set: leave it out", tmp_path / "x.npy", split="train")
    rejected("size=2 is for images", tmp_path / "x.npy", size=2)
    with pytest.raises(DataError, match=r"split='tset' is none of train, test, all: did you mean 'test'\?"):
        load("digits", split="tset")
    with pytest.raises(DataError, match="digits has its own labels"):
        load("digits", labels=tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"missing.npy: cannot be read \(No such file or directory\)"):
        load(tmp_path / "x.npy", labels=tmp_path / "missing.npy")


def test_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read where Debian's package puts it; without the package the error says how to get it."""
    monkeypatch.setattr("tinygen.data.fashion.FOLDER", tmp_path)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.gz does not exist: .*apt install dataset-fashion-mnist"
    ):
        load("fashion")
    images, labels = pixels(10, 9, 28, 28), pixels(11, 9)
    for prefix, part in (("train", slice(0, 6)), ("t10k", slice(6, 9))):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[part])))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[part])))
    for split, part in (("train", slice(0, 6)), ("test", slice(6, 9)), ("all", slice(0, 9))):
        data = load("fashion", split=split)
        np.testing.assert_array_equal(data.x[..., 0], images[part] / np.float32(255))
        np.testing.assert_array_equal(data.labels, labels[part])
