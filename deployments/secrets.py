"""A secret by reference: a configuration names the environment variable that holds it.

What is configured travels between processes and is shown by `serve config`. A reference may be
seen by anyone; the value is read where it is used, and kept nowhere else.
"""

import os
import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEY = re.compile(r"[!-~]+")  # what an HTTP header can hold


@dataclass(frozen=True, slots=True)
class Secret:
    """What `${NAME}` means in a configuration.

    As a field's type it takes such a reference only. It is written, printed and serialised as it
    was given.

    Attributes:
        variable: the environment variable's name.
    """

    variable: str

    def __str__(self) -> str:
        return f"${{{self.variable}}}"

    def resolve(self, *, needed_by: str, runs: str) -> str:
        """The secret itself, from this process's environment.

        Args:
            needed_by: what needs it, for the error: "model 'gpt-4o'".
            runs: what it is that runs here, for the error: "its replica".

        Raises:
            ValueError: the variable is not set.
        """
        value = os.environ.get(self.variable)
        if value is None:
            raise self._fault(needed_by, f"is not set where {runs} runs")
        return value

    def resolve_key(self, *, needed_by: str, runs: str) -> str:
        """The same for an API key.

        Raises:
            ValueError: the variable is not set, or its value can't be a key.
        """
        key = self.resolve(needed_by=needed_by, runs=runs)
        if not key:
            raise self._fault(needed_by, f"is empty where {runs} runs")
        if not _KEY.fullmatch(key):
            raise self._fault(
                needed_by,
                "holds white space or characters that are not ASCII, so it can't be an API key",
            )
        return key

    def _fault(self, needed_by: str, what: str) -> ValueError:
        return ValueError(
            f"{needed_by} needs the environment variable {self.variable}, which {what}"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{REFERENCE.pattern}$"}

    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> "Secret":
        if isinstance(value, cls):
            return value
        reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None:
            # The message must not repeat the value: it may be a real key.
            raise PydanticCustomError(
                "literal_secret",
                "must name an environment variable, not hold the secret itself: set the variable "
                "where the replicas run and write {line}",
                {"line": f"{info.field_name}: ${{MY_KEY}}"},
            )
        return cls(reference[1])
