"""What callers and providers see when providers fail: the application before the fault server.

    python -m ops.bench.faults [--out FOLDER]

Each case is one request to the application, as `make run` serves it, whose model fails in one way
at its provider; `cases.CASES` says how, and what is promised. Each is played with both kinds of
backend that call a provider; an outage under steady traffic comes last. The table says what the
caller got, and when the provider was asked according to its log. The last line is JSON.
"""
