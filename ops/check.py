"""Checks whether a configuration would work on this machine: `python -m ops.check my.yaml`.

Checks all that costs nothing, including whether providers respond; starts no model.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from deployments.config import HostedConfig, ModelConfig
from deployments.contract import Backend, ChatRequest, Embedder, EmbeddingRequest
from deployments.deploy import SHARED_CPUS
from deployments.errors import LLMError
from deployments.registry import load, row_of
from ops.cli.app import alone
from ops.probes import Finding, Listing, listing_of, probe
from ops.ray_internals import available_cpus, available_gpus
from serve.config import ConfigError
from serve.preflight import inspect
from serve.routing.prices import price_of

_CHAT_TIMEOUT_S = 60.0
_MAX_CONCURRENT_CHATS = 8
_COLUMNS = ("model", "USD per 1M tokens, in / out", "needs", "time", "result")

Models = Mapping[int, ModelConfig]


def check(file: str, *, ask: bool, as_json: bool) -> None:
    """Prints a table of the models and a list of the problems; exits with 1 if there are any.

    Args:
        file: a YAML file with `llms:`.
        ask: also request one token or embedding of each hosted model, which the provider bills.
        as_json: print JSON.
    """
    try:
        found = inspect({"config": file})
    except ConfigError as error:
        sys.exit(str(error))
    findings = asyncio.run(_findings(found.models, ask))
    in_router = found.config is not None and found.config.llms.hosted.in_router
    problems = [
        *found.faults,
        *found.faults_here,
        *_shortages(found.models, in_router),
        *(
            f"llms.models.{index}: {found.models[index].name}: {finding.says}"
            for index, finding in sorted(findings.items())
            if finding.works is False
        ),
    ]
    checked = [(model, findings[index]) for index, model in found.models.items()]
    if as_json:
        models = [_described(model, finding, in_router) for model, finding in checked]
        print(json.dumps({"models": models, "problems": problems}, indent=2))
    else:
        rows = [
            (model.name, _price(model), _needs(model, in_router), _seconds(finding), finding.says)
            for model, finding in checked
        ]
        print(*_table([_COLUMNS, *rows]), sep="\n")
        print()
        print(*(problems or ["no problems found"]), sep="\n")
    sys.exit(1 if problems else 0)


def _described(model: ModelConfig, finding: Finding, in_router: bool) -> dict[str, Any]:
    """A row of the table, for programs."""
    return {
        "name": model.name,
        "price": _price(model),
        "needs": _needs(model, in_router),
        "works": finding.works,
        "result": finding.says,
        "seconds": finding.seconds,
    }


async def _findings(models: Models, chat: bool) -> dict[int, Finding]:
    """What can be found out about each model without starting it."""
    findings: dict[int, Finding] = {}
    listings: dict[int, tuple[Listing, str]] = {}
    for index, model in models.items():
        listing = _listing(model)
        if isinstance(listing, Finding):
            findings[index] = listing
        else:
            listings[index] = listing
    findings |= await probe(listings)
    if chat:
        limit = asyncio.Semaphore(_MAX_CONCURRENT_CHATS)
        hosted = {i: m for i, m in models.items() if isinstance(m, HostedConfig)}
        # Closed together at the end, since the models share LiteLLM's connections.
        async with AsyncExitStack() as stack:
            chats = (_chat(model, limit, stack) for model in hosted.values())
            results = await asyncio.gather(*chats)
        findings |= dict(zip(hosted, results, strict=True))
    return findings


def _listing(model: ModelConfig) -> tuple[Listing, str] | Finding:
    """Where a model is listed and under which name; or why that can't be looked up."""
    if not isinstance(model, HostedConfig):
        return Finding(None, "")
    try:
        listing = listing_of(model)
    except ValueError:  # reported as a problem of the configuration
        return Finding(None, "not probed: the API key is not set")
    if listing is None:
        return Finding(None, f"not probed: no free request is known for {model.backend}")
    return listing, model.provider_model


async def _chat(model: HostedConfig, limit: asyncio.Semaphore, stack: AsyncExitStack) -> Finding:
    """Requests one token, or one embedding, through the backend that the server uses."""
    async with limit:
        began = time.monotonic()
        try:
            backend = load(model)
        except Exception as error:  # noqa: BLE001 - anything that would fail the replica's start
            return Finding(False, f"can't start: {error}")
        stack.push_async_callback(backend.aclose)
        try:
            async with asyncio.timeout(_CHAT_TIMEOUT_S):
                await _ask(backend, model)
        except TimeoutError:
            says = f"no response within {_CHAT_TIMEOUT_S:g} s"
            return Finding(False, says, time.monotonic() - began)
        except LLMError as error:
            return Finding(False, str(error), time.monotonic() - began)
        return Finding(True, "answered", time.monotonic() - began)


async def _ask(backend: Backend, model: HostedConfig) -> None:
    if model.embeds:
        assert isinstance(backend, Embedder), "preflight refuses others"
        await backend.embed(EmbeddingRequest(model=model.name, input=["Hi"]))
        return
    request = ChatRequest.model_validate(
        {"model": model.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    )
    async with aclosing(backend.chat(request)) as chunks:
        async for _ in chunks:
            pass


def _price(model: ModelConfig) -> str:
    try:
        price = price_of(model.model_dump())
    except ValueError:
        return "none"
    source = "LiteLLM's price list" if model.cost_per_input_token is None else "configured"
    return f"{price.input * 1e6:g} / {price.output * 1e6:g} ({source})"


def _needs(model: ModelConfig, in_router: bool = False) -> str:
    if model.shares:
        return f"{'in the router' if in_router else 'shares a process'}: {model.what_runs}"
    cpus, gpus = _cpus_and_gpus(model)
    return f"CPU {cpus:g}" + (f", GPU {gpus:g}" if gpus else "") + f": {model.what_runs}"


def _cpus_and_gpus(model: ModelConfig) -> tuple[float, float]:
    """CPUs and GPUs of the replicas that a model starts with."""
    cpus, gpus = model.resources
    replicas = 1 if model.autoscaling is None else model.autoscaling.min_replicas
    return replicas * cpus, replicas * gpus


def _shortages(models: Models, in_router: bool) -> list[str]:
    """What all models together need and this machine lacks."""
    needs = [_cpus_and_gpus(model) for model in models.values()]
    cpus, gpus = sum(needed for needed, _ in needs), sum(needed for _, needed in needs)
    if not in_router:
        shared = {row_of(model).shared for model in models.values() if model.shares}
        cpus += SHARED_CPUS * len(shared)
    problems = []
    if cpus > (have := available_cpus()):
        problems.append(f"the models need CPU {cpus:g} in total, but this machine has {have:g}")
    if gpus and gpus > (have := available_gpus()):
        problems.append(f"the models need GPU {gpus:g} in total, but this machine has {have:g}")
    return problems


def _seconds(finding: Finding) -> str:
    return "" if finding.seconds is None else f"{finding.seconds:.2f} s"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


if __name__ == "__main__":
    alone("check", "ops.check")
