"""Promise: in a replica's log a known error is one line; an unexpected one keeps its traceback."""

import logging

import pytest

from deployments.errors import LLMError, ProviderRejected, RateLimited, UnsupportedParameter
from deployments.replicas.error_log import log_known_errors_in_one_line

PROMPT = "the text of a prompt"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UnsupportedParameter(PROMPT, param="top_k"), "INFO unsupported_parameter: top_k"),
        (UnsupportedParameter(PROMPT), "INFO unsupported_parameter"),
        (RateLimited("in a minute"), "WARNING rate_limit_exceeded: in a minute"),
        (ProviderRejected("no such key"), "WARNING provider_rejected: no such key"),
    ],
)
def test_a_known_error_is_one_line(
    error: LLMError, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert logged(error, caplog) == line
    assert "Traceback" not in caplog.text
    assert PROMPT not in caplog.text


@pytest.mark.parametrize("error", [ValueError("unexpected"), LLMError("nor this")])
def test_an_unexpected_error_keeps_its_traceback(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert logged(error, caplog) == "ERROR Request failed."
    assert "Traceback" in caplog.text


def logged(error: Exception, caplog: pytest.LogCaptureFixture) -> str:
    """What Ray Serve's line about an error becomes."""
    logger = logging.getLogger("ray.serve")
    filters = list(logger.filters)
    logger.addHandler(caplog.handler)
    log_known_errors_in_one_line()
    try:
        raise error
    except Exception:  # as Ray Serve catches all
        logger.exception("Request failed.")  # as in ray/serve/_private/replica.py
    finally:
        logger.removeHandler(caplog.handler)
        logger.filters = filters
    (record,) = caplog.records
    return f"{record.levelname} {record.getMessage()}"
