"""How far a key that sends false scores moves the routing of all.

    python -m ops.bench.poisoning [--data FOLDER] [--embeddings FOLDER] [--seeds N]

The recorded outcomes that a fit learns from are handed out to 100 keys, of which one gives the
models above the median a score of 0 and the others 1. It asks as much as the other keys, or 20
times as much; with the latter, once with the server's bound of what a key's scores may weigh, and
once without. Reported is AIQ (see `ops.bench.routing`), five-fold, of N ways to hand them out, less
AIQ with the same scores given honestly. What the bound costs honest keys is measured too, with
traffic that is uneven. Prints a table; the last line is JSON.
"""
