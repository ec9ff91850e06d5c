"""The store with 1,000 to 1,000,000 past queries, beside Chroma as AIOS uses it and LanceDB.

    python -m ops.bench.store [--data FOLDER] [--most ROWS] [--models N] [--out FOLDER]
        [--chroma-most ROWS] [--seconds N]

Measures what a decision takes in a router's process, also while answers are learned; how soon a
router knows of an answer; how long starts take; memory and disk; and keeping the copies up to date.
The store's actor and each router have a process of their own, as in the server. Only Ray Serve is
left out: the routers find the actor by its name in Ray. They decide as fast as they can, so caches
are warm, unless a figure says "every 5 ms".

The past queries are the embeddings of recorded ones and as many synthetic ones as are needed. Each
of those lies between a recorded query and one of its 32 nearest, shifted by half the distance
between two other neighbours. Of each, 4 models at random have a score and a length, as learning
from answers leaves most outcomes unknown. The new queries are recorded ones, held out.

Every size has its own Ray and its own folder, which are gone afterwards. The last column, for
10,000,000 rows, is not measured, but extrapolated from the two before it. The last line is JSON.
"""
