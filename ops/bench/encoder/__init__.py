"""Whether routing gains from an encoder that has learned from outcomes.

    python -m ops.bench.encoder [--data FOLDER] [--embeddings FOLDER] [--files NAME ...] [--tune]

Each try embeds queries in another way, learned from the train rows of each of five folds alone. Its
predictions route the test rows, beside smart routing as it is. The bounds say what other knowledge
of a query would bring. `--tune` adds the encoder with its last two layers trained, which takes
more than an hour. The last line is JSON.
"""
