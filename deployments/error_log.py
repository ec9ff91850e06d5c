"""What a replica logs of a request that failed: one line where the cause is known.

Ray Serve logs whatever a replica raises as an error with its traceback. An `LLMError` is an answer,
often to a fault of the caller's, and its traceback tells nothing.
"""

import logging

from deployments.errors import LLMError

_LOGGER = "ray.serve"


def log_known_errors_in_one_line() -> None:
    """To be called once in a replica's process."""
    logging.getLogger(_LOGGER).addFilter(_shortened)


def _shortened(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    # The base class stands for what nobody foresaw.
    if not isinstance(error, LLMError) or type(error) is LLMError:
        return True
    record.exc_info = record.exc_text = None
    callers_own = error.status < 500 and not error.retryable
    record.levelno = logging.INFO if callers_own else logging.WARNING
    record.levelname = logging.getLevelName(record.levelno)
    # A message to the caller may repeat what was asked; one about the provider is for the operator.
    why = error.param if callers_own else error.message
    record.msg, record.args = f"{error.code}: %s" if why else error.code, (why,) if why else ()
    return True
