"""Prompts of about a wanted number of tokens, and requests around them, in OpenAI's format.

A token is taken to be four characters, as OpenAI's rule of thumb for English says
(https://help.openai.com/en/articles/4936856). What a model counts differs by its tokenizer; the
report has what the models counted.
"""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from ops.load.schedule import Planned
from ops.load.traces import BLOCK_TOKENS

CHARACTERS_OF_A_TOKEN = 4

_WORDS = (
    "able about above across after again air all along also always animal another answer any "
    "apple area around ask autumn away back ball bank bear before begin behind below best better "
    "between big bird black blue boat body book both bread bring brother brown build busy call "
    "care carry change child city clean clear close cloud coat cold color come cook corn corner "
    "count country cover cross cut dance dark day deep different door down draw dream dress drink "
    "drive dry early earth east easy eat egg eight enough even evening every example eye face "
    "fall family far farm fast father field find fire first fish five floor flower fly follow "
    "food foot forest form four free friend from front fruit full garden gate give glass gold "
    "good grass gray great green ground group grow half hand happy hard have head hear heart "
    "heavy help here high hill hold home horse hot hour house how hundred idea inside island keep "
    "kind king kitchen know lake land large last late laugh lead leaf learn leave left letter "
    "life light line list listen little live long look low lunch make many map mark market meet "
    "middle milk minute month moon more morning mother mountain mouth move much music name near "
    "never new night nine noon north note number ocean often old once open orange order other "
    "outside over page paint paper park part pass path people piece place plain plan plant play "
    "point pond quick quiet rain reach read ready real red rest rice ride right ring rise river "
    "road rock room round run salt same sand school sea season second see seed seven shape sheep "
    "ship shoe short show side silver simple sing sister six size sky sleep slow small snow soft "
    "some song soon sound south space spring square stand star start stay step stone stop story "
    "street strong summer sun sure table tail take talk tall teach tell ten thing think three "
    "time today together town train travel tree true try turn two under until use valley very "
    "village visit voice wait walk wall warm watch water way wear weather week west wheat white "
    "wide wind window winter wood word work world write year yellow yes young"
).split()
_QUESTION = "What do these words make you think of?"
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
_SCHEMA = {
    "type": "object",
    "properties": {"good": {"type": "boolean"}, "number": {"type": "integer"}},
    "required": ["good", "number"],
    "additionalProperties": False,
}
_ALL_MODELS = "auto"


def prompt(planned: Planned, seed: int, nonce: str) -> str:
    """Words of about `prompt_tokens` tokens. Without `blocks` it begins like no other one of this
    run, and always like none of a run with another nonce; the rest is the seed's."""
    characters = planned.prompt_tokens * CHARACTERS_OF_A_TOKEN
    if not planned.blocks:
        own = f"{planned.number} {nonce} {_words(characters, f'{seed} {planned.number}')}"
        return _asking(own, characters)
    size = BLOCK_TOKENS * CHARACTERS_OF_A_TOKEN
    text = "".join(_words(size, f"{seed} block {block}") for block in planned.blocks)
    return _asking(f"{nonce} {text}", characters)


def body(
    planned: Planned, seed: int, nonce: str, router: Mapping[str, Any] | None, ignore_eos: bool
) -> bytes:
    """The body of `POST /v1/chat/completions`.

    Args:
        planned: the request.
        seed: the profile's, so that other seeds ask other questions.
        nonce: the run's.
        router: the field `router` of requests to all models.
        ignore_eos: whether the answer is to have exactly `answer_tokens` tokens.
    """
    fields: dict[str, Any] = {
        "model": planned.model,
        "messages": [{"role": "user", "content": prompt(planned, seed, nonce)}],
        "max_tokens": planned.answer_tokens,
    }
    if planned.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if planned.kind == "tools":
        fields |= {"tools": [_TOOL]}
    if planned.kind == "json":
        schema = {"name": "answer", "schema": _SCHEMA, "strict": True}
        fields |= {"response_format": {"type": "json_schema", "json_schema": schema}}
    if router is not None and planned.model == _ALL_MODELS:
        fields |= {"router": router}
    if ignore_eos:
        fields |= {"ignore_eos": True}
    return json.dumps(fields, separators=(",", ":")).encode()


def _words(characters: int, seed: str) -> str:
    """Exactly this many characters: words with spaces between them, and one at the end."""
    # Their average length with a space is more than 4.
    text = " ".join(Random(seed).choices(_WORDS, k=characters // 4 + 1))
    return text[: characters - 1].ljust(characters)


def _asking(text: str, characters: int) -> str:
    """The text with a question at its end, if there is room for it."""
    room = characters - len(_QUESTION)
    return text[:room] + _QUESTION if room > len(_QUESTION) else text[:characters].strip() or "a"
