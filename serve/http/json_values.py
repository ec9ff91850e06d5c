"""How many values a JSON text holds, counted before it is decoded."""

# Bytes looked at in one go; other threads, such as the event loop's, run in between.
_WINDOW = 2**16


def holds_more_values(body: bytes, most: int) -> bool:
    """Whether a JSON text holds more than `most` values, nested ones included.

    Decoding takes some hundred times as long for a small value as for the bytes of a long string,
    and stops every other thread; this stops none, and ends as soon as there are too many. An empty
    array or object counts as two values, and what isn't JSON gets any answer.
    """
    # Each value but the first follows a comma or an opening bracket outside of strings.
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
        # A value brings two strings at most: its key and itself.
        if values > most or quotes > 4 * most:
            return True
    return False
