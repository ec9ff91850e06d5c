"""Times of the store at 10^3 to 10^6 past queries, beside Chroma as AIOS uses it.

    python -m ops.bench.store [--data FOLDER] [--most ROWS] [--out FOLDER]

Past queries are the recorded ones, embedded, and as many made-up ones as are needed: each lies
between a recorded query and one of its 32 nearest, moved by half of the way between two other near
ones. New queries are recorded ones that were set apart. The last line is JSON.
"""
