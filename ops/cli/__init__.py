"""The options of all commands, once: for `llm-cores`, and for the programs `python -m ops.NAME`.

What a command does is in `ops.NAME` and `ops.client`, and is imported only when it runs: help and
completion are quick.
"""
