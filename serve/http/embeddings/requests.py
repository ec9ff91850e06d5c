"""From the bytes of a body to a request for embeddings.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from typing import Literal

from pydantic import ValidationError

from deployments.contract import EmbeddingRequest
from deployments.embeddings import Text, Texts, TokenLists, Tokens
from deployments.errors import InvalidRequest
from serve.http.bodies.fields import explain, fields_of

EncodingFormat = Literal["float", "base64"]


class EmbeddingBody(EmbeddingRequest):
    """OpenAI's embeddings request. Unknown fields are rejected; null counts as left out. `model` is
    one from `/v1/models` with the capability "embeddings"; `input` is one text or several, each
    written out or as token ids of the model's own tokenizer."""

    # One input may stand without its list.
    input: Text | Texts | Tokens | TokenLists  # type: ignore[assignment]
    encoding_format: EncodingFormat | None = None


def parse(body: bytes) -> tuple[EmbeddingRequest, EncodingFormat]:
    """Reads the body of `POST /v1/embeddings`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    fields = {key: value for key, value in fields_of(body).items() if value is not None}
    encoding_format = fields.pop("encoding_format", "float")
    if encoding_format not in ("float", "base64"):
        raise InvalidRequest(
            "encoding_format: must be 'float' or 'base64'", param="encoding_format"
        )
    given = fields.get("input")
    alone = isinstance(given, str) or (
        isinstance(given, list) and bool(given) and isinstance(given[0], int)
    )
    try:
        request = EmbeddingRequest.model_validate(
            {**fields, **({"input": [given]} if alone else {})}
        )
    except ValidationError as error:
        raise explain(error, fields) from None
    return request, encoding_format
