"""A provider in OpenAI's wire format that fails on purpose; the request's `model` says how.

    python -m ops.bench.fault_server [--port N]

`model` is one of `FAULTS`, some of which take a number: "cut=40" breaks off after 40 tokens. Each
attempt is logged with its time, body and outcome; this command prints it as a line of JSON.

Answers are streamed, as the router's backends ask for them. Their text depends on the request
alone, so a reader can tell whether anything is missing, doubled or taken from another answer.
"""

from ops.bench.fault_server.answers import OTHER_TEXT, TEXT, TOKENS
from ops.bench.fault_server.faults import FAULTS
from ops.bench.fault_server.server import FaultServer, serving
from ops.bench.fault_server.steps import Attempt

__all__ = ["FAULTS", "OTHER_TEXT", "TEXT", "TOKENS", "Attempt", "FaultServer", "serving"]
