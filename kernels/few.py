"""Products in which one of the three sizes is small, of which a tile would be mostly empty.

A result of up to `FEW` columns is computed as scalar products; one of up to `FEW` rows, or from as few products in
each sum, as sums of multiples of rows. Each loop takes several rows at once, so that what they share is loaded once.
"""

import numpy as np

from kernels.arguments import Array
from kernels.compilation import jit

FEW = 4
"""Rows or columns that are few."""


@jit(fastmath={"contract", "reassoc"})
def scalar_products(y: Array, a: Array, b: Array, start: Array) -> None:
    """``y = a bᵀ + start``; the compiler may reorder the sums so as to use vectors."""
    zero, fours = y.dtype.type(0), len(a) // 4 * 4
    for i in range(0, fours, 4):
        p, q, r, s = a[i], a[i + 1], a[i + 2], a[i + 3]
        for j in range(len(b)):
            c, first, second, third, fourth = b[j], zero, zero, zero, zero
            for k in range(len(c)):
                first += p[k] * c[k]
                second += q[k] * c[k]
                third += r[k] * c[k]
                fourth += s[k] * c[k]
            y[i, j], y[i + 1, j] = first + start[j], second + start[j]
            y[i + 2, j], y[i + 3, j] = third + start[j], fourth + start[j]
    for i in range(fours, len(a)):
        for j in range(len(b)):
            total = zero
            for k in range(a.shape[1]):
                total += a[i, k] * b[j, k]
            y[i, j] = total + start[j]


@jit(fastmath={"contract"})
def multiples(y: Array, a: Array, b: Array, start: Array) -> None:
    """``y = a b + start``, as multiples of b's rows: after the first, four at a time."""
    n, k = y.shape[1], 1
    for i in range(len(a)):
        for j in range(n):
            y[i, j] = start[j] + a[i, 0] * b[0, j] if len(b) else start[j]
    while k < len(b):
        if k + 4 <= len(b):
            u, v, w, x = b[k], b[k + 1], b[k + 2], b[k + 3]
            for i in range(len(a)):
                p, q, r, s = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
                for j in range(n):
                    y[i, j] = y[i, j] + p * u[j] + q * v[j] + r * w[j] + s * x[j]
            k += 4
        else:
            for i in range(len(a)):
                for j in range(n):
                    y[i, j] += a[i, k] * b[k, j]
            k += 1


@jit(fastmath={"contract"})
def add_outer_products(y: Array, a: Array, b: Array) -> None:
    """``y = aᵀ b``, of which one has few columns: four rows of the other at a time are multiplied by each of them."""
    narrow = b.shape[1] <= FEW
    thin, wide = (b, a) if narrow else (a, b)
    total, fours = np.zeros((thin.shape[1], wide.shape[1]), y.dtype), len(wide) // 4 * 4
    for i in range(0, fours, 4):
        p, q, r, s = wide[i], wide[i + 1], wide[i + 2], wide[i + 3]
        for j in range(len(total)):
            t, c, d, e, f = total[j], thin[i, j], thin[i + 1, j], thin[i + 2, j], thin[i + 3, j]
            for k in range(len(t)):
                t[k] += (c * p[k] + d * q[k]) + (e * r[k] + f * s[k])
    for i in range(fours, len(wide)):
        for j in range(len(total)):
            for k in range(wide.shape[1]):
                total[j, k] += thin[i, j] * wide[i, k]
    for j in range(len(total)):
        for k in range(wide.shape[1]):
            if narrow:
                y[k, j] = total[j, k]
            else:
                y[j, k] = total[j, k]
