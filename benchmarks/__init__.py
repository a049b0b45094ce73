"""Side-by-side measurements of tinygen and its peers: ``python -m benchmarks``. They inform; they never fail."""
