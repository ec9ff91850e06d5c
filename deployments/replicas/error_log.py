"""What a replica logs about a failed request: one line if the cause is known.

Ray Serve logs whatever a replica raises as an error, with its traceback. An `LLMError` is an
answer, often to a caller's mistake, and its traceback says nothing.
"""

import logging

from deployments.errors import LLMError

_LOGGER = "ray.serve"


def log_known_errors_in_one_line() -> None:
    """Call it once in a replica's process."""
    logging.getLogger(_LOGGER).addFilter(_shortened)


def _shortened(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    # The base class stands for unexpected errors.
    if not isinstance(error, LLMError) or type(error) is LLMError:
        return True
    record.exc_info = record.exc_text = None
    is_callers = error.status < 500 and not error.retryable
    record.levelno = logging.INFO if is_callers else logging.WARNING
    record.levelname = logging.getLevelName(record.levelno)
    # A message to the caller may quote the request; one about the provider is for the operator.
    why = error.param if is_callers else error.message
    record.msg, record.args = f"{error.code}: %s" if why else error.code, (why,) if why else ()
    return True
