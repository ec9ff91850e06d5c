"""The console's paths."""

PAGE, STATIC = "/", "/console/static/"
LIVE, TRADEOFF = "/console/live", "/console/tradeoff"
# What a page reads every few seconds, which counts towards no limit.
POLLED = frozenset({LIVE, TRADEOFF})


def is_page(path: str) -> bool:
    """Whether a path is of the page or its files, which need no key: it asks its user for one."""
    return path == PAGE or path.startswith(STATIC)
