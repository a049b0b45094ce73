"""Where the peers keep what they compiled."""


def caches(folder: str) -> dict[str, str]:
    """The environment in which they keep it in a folder; JAX keeps nothing otherwise."""
    return {
        "TORCHINDUCTOR_CACHE_DIR": folder,
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
