"""What the application costs a request, beside LiteLLM's proxy and the upstream alone.

    python -m ops.bench.overhead [--contestants NAMES] [--cases NAMES] [--rounds N] [--seconds N]
        [--memory [REQUESTS]] [--quick] [--out FOLDER]

An upstream that answers at once stands behind all contestants. Each is started once, as its users
would start it, and all take turns at every case, in a new order each time; only the one whose turn
it is runs (the others get SIGSTOP). For the open loop, each is started afresh. Every answer is
checked to its last token. Ratios are of medians over the rounds, to LiteLLM's proxy with one
worker. With `--memory`, 100,000 requests follow for each of our own. The last line is JSON.
"""
