"""Matrix products and factorisations, over the last two axes; leading axes broadcast."""

import string

import numpy as np

from tinygen.autograd import Real, composite, effect, primitive
from tinygen.autograd.domain import Choice, Examples, Sequence
from tinygen.errors import ShapeError
from tinygen.ops.shape import expand_dims, moveaxis, reshape, squeeze, swapaxes


def _transposed(a):
    return swapaxes(a, -1, -2)


@primitive(domain={"a": Real("... m k"), "b": Real("... k n")})
def matrix_product(a, b):
    """Product of matrices, with broadcasting: dC = dA B + A dB."""
    return np.matmul(a, b)


matrix_product.vjp(
    a=lambda g, b: matrix_product(g, _transposed(b)),
    b=lambda g, a: matrix_product(_transposed(a), g),
)


@composite(
    domain=Examples(
        {"a": Real("... m k"), "b": Real("... k n")},
        {"a": Real("k"), "b": Real("k n")},
        {"a": Real("m k"), "b": Real("k")},
        {"a": Real("k"), "b": Real("k")},
    ),
    numpy=np.matmul,
)
def matmul(a, b):
    """Matrix product as NumPy has it: a vector is a row on the left and a column on the right.

    Parameters
    ----------
    a : ``(..., M, K)`` or ``(K,)``
    b : ``(..., K, N)`` or ``(K,)``

    Raises
    ------
    ShapeError : if the two K differ or an argument is a number
    """
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        raise ShapeError("matmul: both arguments need at least one axis; use multiply (*) for numbers")
    row, column = np.ndim(a) == 1, np.ndim(b) == 1
    left = expand_dims(a, 0) if row else a
    right = expand_dims(b, 1) if column else b
    if np.shape(left)[-1] != np.shape(right)[-2]:
        raise ShapeError(
            f"matmul: a has K={np.shape(left)[-1]} in (...,M,K)={np.shape(a)} but b has K={np.shape(right)[-2]} "
            f"in (...,K,N)={np.shape(b)}; transpose one with swapaxes if its axes are in the other order"
        )
    product = matrix_product(left, right)
    return squeeze(product, (-2,) * row + (-1,) * column) if row or column else product


@composite(
    domain=Examples(
        {"a": Real("n m k"), "b": Real("h k w")},
        {"a": Real("m k"), "b": Real("k n")},
        {"a": Real("k"), "b": Real("m k n")},
        {"a": Real("m k"), "b": Real("k")},
        {"a": Real(""), "b": Real("n m")},
    ),
    numpy=np.dot,
)
def dot(a, b):
    """Sum of products over the last axis of a and the last but one of b, as `numpy.dot`; `matmul` up to two axes."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    first = moveaxis(b, -2, 0) if np.ndim(b) > 1 else b
    size = np.shape(first)[0]
    if np.shape(a)[-1] != size:
        raise ShapeError(
            f"dot: a has K={np.shape(a)[-1]} in (...,K)={np.shape(a)} but b has K={size} in (...,K,N)={np.shape(b)}"
        )
    product = matrix_product(reshape(a, (-1, size)), reshape(first, (size, -1)))
    return reshape(product, np.shape(a)[:-1] + np.shape(first)[1:])


# --------------------------------------------------------------------------------------------------------------- einsum


@primitive(
    domain=Examples(
        {"subscripts": Choice("ij->ij", "ij->ji", "ij->j", "ij->"), "operands": Sequence(Real("i j"), 1, 1)},
        {
            "subscripts": Choice("ij,jk->ik", "ij,kj->k", "ij,kl->", "ij,ij->ij"),
            "operands": Sequence(Real("n n"), 2, 2),
        },
        {"subscripts": Choice("ij,jk,kl->il", "ij,ij,ik->j"), "operands": Sequence(Real("n n"), 3, 3)},
    )
)
def contraction(subscripts, operands):
    """`numpy.einsum` with an explicit result and no letter twice in one operand."""
    return np.einsum(subscripts, *operands, optimize=len(operands) > 1)


def _contraction_adjoint(g, subscripts, operands):
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    gradients = []
    for i, term in enumerate(terms):
        parts = [(output, g), *((t, o) for j, (t, o) in enumerate(zip(terms, operands, strict=True)) if j != i)]
        for c, n in zip(term, operands[i].shape, strict=True):
            if all(c not in t or o.shape[t.index(c)] == 1 for t, o in parts):  # its size is this operand's alone
                parts.append((c, np.ones(n, g.dtype)))
        gradients.append(contraction(",".join(t for t, _ in parts) + "->" + term, [o for _, o in parts]))
    return gradients


contraction.vjp(operands=_contraction_adjoint)


@composite(
    domain=Examples(
        {"subscripts": Choice("ij,jk", "ij,jk->ki", "ij,jk->j", "ji,kj->"), "a": Real("n=2:2 n"), "b": Real("n=2:2 n")},
        {"subscripts": Choice("ii", "ii->i", "ij->", "...i->..."), "a": Real("n n")},
        {"subscripts": Choice("...i,i", "b...i,i->...b"), "a": Real("b h k"), "b": Real("k")},
    ),
    numpy=np.einsum,
)
def einsum(subscripts, *operands):
    """Sum of products in Einstein's notation, as `numpy.einsum`: implicit result, ellipsis and repeated letters too.

    Raises
    ------
    ShapeError : if the subscripts do not fit the operands

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.einsum("ii->i", tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.], dtype=float32)
    """
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum: {subscripts!r} has {len(terms)} terms but there are {len(operands)} operands")
    free = [c for c in string.ascii_letters if c not in subscripts]
    dots = [np.ndim(x) - len(t) + 3 for t, x in zip(terms, operands, strict=True) if "..." in t]
    letters = "".join(free[: max(dots, default=0)])
    free = free[len(letters) :]
    if not arrow:
        once = sorted(c for c in set(inputs) - set(",.") if inputs.count(c) == 1)
        output = ("..." if dots else "") + "".join(once)
    full_terms, full_operands = [], []
    for term, x in zip(terms, operands, strict=True):
        hidden = np.ndim(x) - len(term.replace("...", ""))
        if hidden < 0 or (hidden and "..." not in term):
            raise ShapeError(f"einsum: term {term!r} of {subscripts!r} does not fit an operand of shape {np.shape(x)}")
        term = term.replace("...", letters[len(letters) - hidden :])
        for place, letter in enumerate(term):
            if letter in term[:place]:  # a diagonal: a letter of its own, tied to the first by an identity matrix
                other = free.pop()
                term = term[:place] + other + term[place + 1 :]
                full_terms.append(letter + other)
                full_operands.append(np.eye(np.shape(x)[place], dtype=x.dtype))
        full_terms.append(term)
        full_operands.append(x)
    try:
        return contraction(",".join(full_terms) + "->" + output.replace("...", letters), full_operands)
    except ValueError as error:
        shapes = ", ".join(str(np.shape(x)) for x in operands)
        raise ShapeError(f"einsum: {subscripts!r} does not fit operands of shapes {shapes}: {error}") from None


# ------------------------------------------------------------------------------------------------------- factorisations


@primitive(domain={"a": Real("... n n", structure="invertible")}, numpy=np.linalg.inv)
def inv(a):
    """Inverse of matrices: d(A⁻¹) = -A⁻¹ dA A⁻¹."""
    return np.linalg.inv(_square(a, "inv"))


inv.vjp(a=lambda g, out: -matrix_product(_transposed(out), matrix_product(g, _transposed(out))))


@primitive(domain={"a": Real("... n n", structure="invertible")})
def logabsdet(a):
    """Log |det A| of matrices: d = tr(A⁻¹ dA)."""
    return np.linalg.slogdet(_square(a, "slogdet"))[1]


logabsdet.vjp(a=lambda g, a: expand_dims(expand_dims(g, -1), -1) * _transposed(inv(a)))


@composite(domain={"a": Real("... n n", structure="invertible")}, numpy=np.linalg.slogdet)
def slogdet(a):
    """(sign of det A, log |det A|) of matrices ``(..., N, N)``; the sign has no gradient."""
    return effect(_sign_of_det, a), logabsdet(a)


def _sign_of_det(a):
    return np.asarray(np.linalg.slogdet(_square(a, "slogdet"))[0])


@primitive(domain={"a": Real("... n n", structure="positive definite")}, numpy=np.linalg.cholesky)
def cholesky(a):
    """Lower triangular L with L Lᵀ = A, for symmetric positive definite A of which only the lower triangle is read.

    The gradient is in the lower triangle too (Murray 2016, "Differentiation of the Cholesky decomposition", eq. 10).

    Raises
    ------
    numpy.linalg.LinAlgError : if A is not positive definite
    """
    return np.linalg.cholesky(_square(a, "cholesky"))


def _cholesky_adjoint(g, out):
    n = out.shape[-1]
    half = np.tril(np.ones((n, n), out.dtype)) - np.eye(n, dtype=out.dtype) / 2
    inner = matrix_product(_transposed(out), g) * half
    left = solve_triangular(_transposed(out), inner, False)  # L⁻ᵀ Φ
    whole = _transposed(solve_triangular(_transposed(out), _transposed(left), False))  # ... L⁻¹
    return (whole + _transposed(whole)) * half


cholesky.vjp(a=_cholesky_adjoint)


@primitive(domain={"a": Real("... n n", structure="triangular"), "b": Real("... n m"), "lower": Choice(True, False)})
def solve_triangular(a, b, lower=True):
    """X with A X = B, reading only the lower (or upper) triangle of A: dX = A⁻¹ (dB - dA X).

    Parameters
    ----------
    a : ``(..., N, N)``
    b : ``(..., N, M)``
    lower : which triangle of a counts

    Raises
    ------
    ShapeError : if the two N differ
    numpy.linalg.LinAlgError : if the diagonal of A has a zero
    """
    if np.shape(b)[-2:-1] != np.shape(_square(a, "solve_triangular"))[-1:]:
        raise ShapeError(f"solve_triangular: a has N={np.shape(a)[-1]} in (...,N,N) but b is (...,N,M)={np.shape(b)}")
    return np.linalg.solve(np.tril(a) if lower else np.triu(a), b)


def _solve_triangular_a(g, out, a, lower):
    n = a.shape[-1]
    triangle = np.tril(np.ones((n, n), a.dtype))
    b_bar = solve_triangular(_transposed(a), g, not lower)
    return -matrix_product(b_bar, _transposed(out)) * (triangle if lower else triangle.T)


solve_triangular.vjp(a=_solve_triangular_a, b=lambda g, a, lower: solve_triangular(_transposed(a), g, not lower))


def _square(a, name):
    shape = np.shape(a)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"{name}: needs square matrices (...,N,N), got shape {shape}")
    return a
