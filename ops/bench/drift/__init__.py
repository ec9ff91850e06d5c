"""How far many routers together drift from a requirement, and what that costs; and what it is worth
that scores age, where models drift.

    python -m ops.bench.drift [--data FOLDER] [--out FOLDER]

Routers with real policies, without Ray: requests are dealt to them at random, and each exchanges
once a second with the store's policies. Half way the queries become harder. Then one router, after
a time in which no choice could change whether the requirement held. Last, streams in which a model
changes behind its name, with scores that age and with scores that don't. With recorded outcomes
(`--data`, or the environment variable ROUTING_DATA) qualities and costs are the predictions for
those; without, they are synthetic. Writes a table and a plot; the last line is JSON.
"""
