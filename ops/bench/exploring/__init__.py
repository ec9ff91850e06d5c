"""How many scored answers a new model needs until it gains what its full history gives.

    python -m ops.bench.exploring [--data FOLDER] [--out FOLDER] [--fleets N]

Small fleets are drawn from recorded outcomes, and one model of each is new: of it, only the
outcomes of some random past queries are known. Gain: what held-out queries are worth with it, less
without it. Then requests to some of the fleets, where a new model is scored only when it is chosen
or explored. Last, routing where few outcomes are known of each past query. Writes tables and a
plot; the last line is JSON.
"""
