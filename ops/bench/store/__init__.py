"""Times of the store with 1,000 to 1,000,000 past queries, compared with Chroma as AIOS uses it.

    python -m ops.bench.store [--data FOLDER] [--most ROWS] [--out FOLDER]

The past queries are the embeddings of recorded ones and as many synthetic ones as are needed. Each
of those lies between a recorded query and one of its 32 nearest, shifted by half the distance
between two other neighbours. The new queries are recorded ones, held out. The last line is JSON.
"""
