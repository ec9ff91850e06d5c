"""Counting the values of a JSON text before it is decoded."""

# Bytes scanned at once; other threads, such as the event loop's, can run in between.
_WINDOW = 2**16


def holds_more_values(body: bytes, most: int) -> bool:
    """Whether a JSON text has more than `most` values, nested ones included.

    Decoding many small values takes some hundred times as long as decoding one long string of the
    same size, and blocks all other threads. This blocks none, and stops as soon as there are too
    many. An empty array or object counts as two values; for invalid JSON the result means nothing.
    """
    if len(body) <= most:
        return False  # each value takes a byte at least
    # Each value but the first follows a comma or an opening bracket outside strings.
    values, quotes, inside, dangling = 1, 0, b"", b""
    for start in range(0, len(body), _WINDOW):
        window = dangling + body[start : start + _WINDOW]
        window = window.replace(rb"\\", b"").replace(rb"\"", b"")
        dangling = b"\\" if window.endswith(b"\\") else b""
        pieces = (inside + window.removesuffix(b"\\")).split(b'"')
        outside = b"".join(pieces[::2])
        values += sum(map(outside.count, (b",", b"[", b"{")))
        quotes += len(pieces) - 1 - len(inside)
        inside = b'"' * (quotes % 2)
        # A value has at most two strings: its key and itself.
        if values > most or quotes > 4 * most:
            return True
    return False
