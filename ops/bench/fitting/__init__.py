"""How well fits route in synthetic stores of many kinds, by neighbours and with networks.

    python -m ops.bench.fitting [--seeds N]

Of each kind, N stores are made, whose chances and lengths of answers are known. Each is fitted on
its past queries, and new ones are routed. Regret: how much lower the curve of quality over cost
lies, on average, than with perfect predictions (AIQ, as in `ops.bench.routing`). Prints a table;
the last line is JSON.
"""
