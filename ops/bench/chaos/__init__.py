"""Kills processes of a cluster of three nodes, one at a time, under steady load.

    python -m ops.bench.chaos [--rate 10] [--seconds 10] [--out FOLDER]

Half of the requests are streamed. A caller retries once where the connection breaks or Ray's own
proxy fails, as OpenAI's client does: when the router that handles a request is killed, nothing else
can retry for it. Prints a table, then a line of JSON.
"""
