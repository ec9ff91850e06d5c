"""Quality and cost of smart routing on recorded outcomes, compared with other rules.

    python -m ops.bench.routing [--data FOLDER] [--out FOLDER]

Each file of the data is measured twice: fitted on `train` and reported on `val`, and five-fold
(a query's fold is sha256(id) % 5). Writes a plot and tables for each file; the last line is JSON.
The environment variable ROUTING_DATA may name the folder of the data, too.
"""
