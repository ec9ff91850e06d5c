"""Promise: any configuration is accepted or refused, and no message quotes a secret."""

import copy
import tempfile
import traceback
from functools import reduce
from typing import Any, cast

import yaml
from fuzzing import characters, garbage, spoilt, unhurried
from hypothesis import given
from hypothesis import strategies as st

from serve.config import ConfigError
from serve.preflight import inspect

SECRET = "sk-0never0to0be0quoted"
MORE: dict[str, Any] = {
    "cost_per_input_token": 1e-6,
    "cost_per_output_token": 1e-6,
    "prior_quality": 0.5,
    "autoscaling": {"min_replicas": 1, "max_replicas": 2},
    "max_ongoing_requests": 2,
    "timeout": 1,
    "circuit": {"failures": 1, "seconds": 1},
    "context_window": 100,
    "capabilities": ["tools"],
    "fallbacks": ["n"],
}
CONFIGURATION = {
    "llms": {
        "models": [
            {"name": "m", "backend": "openai", "api_key": "${A}", "hostname": "http://h", **MORE},
            {"name": "n", "backend": "vllm", "hostname": "http://h", "api_key": "${A}"},
            {
                "name": "e",
                "backend": "vllm",
                "gpus": 2,
                "engine": {"max_model_len": 9, "hf_token": None},
                "adapters": {"a": "./a"},
            },
            {"name": "h", "backend": "huggingface", "model": "./f", "max_gpu_memory": {0: "1GB"}},
        ],
        "router": {"strategy": "smart", "performance_requirement": 0.5, "n_similar": 3},
        "store": {
            "url": "sqlite:///file",
            "history": ["./h.json"],
            "embedder": {"max_replicas": 1},
        },
    },
    "server": {
        "keys": [{"name": "k", "key": "${A}", "models": ["m"], "requests_per_minute": 1}],
        "cors_origins": ["http://localhost"],
        "autoscaling": {"max_replicas": 1},
        "max_body_bytes": 10_000,
    },
}
# Where a key or a password may be written by mistake, and how.
SPILLS: list[tuple[tuple[Any, ...], str]] = [
    (("llms", "models", 0, "api_key"), "{}"),
    (("llms", "models", 0, "hostname"), "http://me:{}@host"),
    (("llms", "models", 0, "hostname"), "http://host/v1?key={}"),
    (("llms", "models", 1, "api_key"), "{}"),
    (("llms", "models", 1, "hostname"), "https://{}@host/v1"),
    (("llms", "models", 2, "engine", "hf_token"), "{}"),
    (("llms", "store", "url"), "postgresql://me:{}@host/db"),
    (("llms", "store", "url"), "postgresql://host/db?password={}"),
    (("server", "keys", 0, "key"), "{}"),
]
written = st.sampled_from(["{}", " {}", "${}", "${{{}}}", "{}}}", '"{}', "{}\n"]).map(
    lambda written: written.format(SECRET)
)


@st.composite
def configurations(draw: st.DrawFn) -> Any:
    """A configuration with some values wrong, and secrets where none may be."""
    whole = copy.deepcopy(CONFIGURATION)
    for path, form in draw(st.lists(st.sampled_from(SPILLS), max_size=2)):
        section = reduce(lambda inside, key: inside[key], path[:-1], cast(Any, whole))
        section[path[-1]] = form.format(draw(written))
    return draw(spoilt(whole))


def load(args: dict[str, Any]) -> None:
    """Loads a configuration that may be wrong; its error must not quote a secret."""
    try:
        told = repr(inspect(args))
    except ConfigError as error:
        told = "".join(traceback.format_exception(error))
    assert SECRET not in told


@unhurried
@given(configurations() | st.dictionaries(st.sampled_from(["llms", "server", "config"]), garbage))
def test_any_configuration_is_accepted_or_refused_without_quoting_a_secret(args: Any) -> None:
    load(args if isinstance(args, dict) else {"llms": args})


# What YAML gives a meaning.
signs = st.sampled_from(
    "a b : - , { } [ ] & * ! | > % @ ` ? # \n \t ' \" << 1 . ~ &a *a".split(" ")
)


@unhurried
@given(
    configurations().map(lambda args: yaml.safe_dump(args, allow_unicode=True))
    | st.lists(signs).map("".join)
    | st.text(characters)
)
def test_so_is_any_configuration_file(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", errors="surrogatepass") as file:
        file.write(text)
        file.flush()
        load({"config": file.name})
