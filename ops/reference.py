"""The parts of the documentation that are made from the code: keys, paths, errors, commands….

Each function gives Markdown; `write` puts it where the pages include it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.config import SLO, Autoscaling, Circuit, ModelConfig
from deployments.errors import LLMError
from deployments.registry import KINDS, named
from serve.config import (
    HostedModels,
    KeyConfig,
    LLMs,
    RouterConfig,
    ScoringConfig,
    ServerConfig,
    Settings,
    StoreConfig,
)

Json = dict[str, Any]

# Where each section of the configuration stands, in the order of the page.
SECTIONS: dict[str, type[BaseModel]] = {
    "llms": LLMs,
    "llms.router": RouterConfig,
    "llms.router.scoring": ScoringConfig,
    "llms.store": StoreConfig,
    "llms.hosted": HostedModels,
    "server": ServerConfig,
    "server.keys[]": KeyConfig,
    "circuit": Circuit,
    "autoscaling.slo": SLO,
    "user_config": Settings,
}


def write(folder: Path) -> None:
    """Writes everything that the pages include."""
    folder.mkdir(exist_ok=True)
    pages = {f"keys-{name}": page for name, page in configuration().items()}
    pages |= {"endpoints": endpoints(), "errors": errors(), "metrics": metrics()}
    pages["commands"] = commands()
    pages |= {f"keys-load-{name}": page for name, page in load_profile().items()}
    for name, page in pages.items():
        (folder / f"{name}.md").write_text(page)


# --- configuration ---


def configuration() -> dict[str, str]:
    """A table of keys for each section, by its name in a file. Of models: what every one has, then
    what those of each kind in the registry have besides."""
    tables = {_file(path): _keys(section) for path, section in SECTIONS.items()}
    tables["model"] = _keys(ModelConfig)
    for kind, row in KINDS.items():
        tables[kind] = _keys(named(row.config), beyond=ModelConfig)
    return tables


def load_profile() -> dict[str, str]:
    """A table of keys for each section of a load test's profile, by the section's name."""
    from ops.load import profile

    return {
        section.__name__.lower(): _keys(section)
        for section in (
            *(profile.Profile, profile.Mix, profile.SLO, profile.Capacity),
            *(profile.Steady, profile.Ramp, profile.Spike, profile.Diurnal, profile.Idle),
            *(profile.Trace, profile.Constant, profile.Uniform, profile.LogNormal),
        )
    }


def _file(path: str) -> str:
    return path.removesuffix("[]").replace(".", "-").replace("_", "-")


def described(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a section, with the type, default and description of each."""
    yield from section.model_fields.items()


def _keys(section: type[BaseModel], beyond: type[BaseModel] | None = None) -> str:
    schema = section.model_json_schema(mode="validation")
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in described(section):
        if beyond and _same(field, beyond.model_fields.get(name)):
            continue
        kind = _type(schema["properties"][name], schema.get("$defs", {}))
        cells = f"`{name}`", kind, _default(field), _line(field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _same(field: FieldInfo, other: FieldInfo | None) -> bool:
    return other is not None and (field.annotation, field.default, field.description) == (
        other.annotation,
        other.default,
        other.description,
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Autoscaling):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, dict) and value:
        return "`{" + ", ".join(f"{key}: {part}" for key, part in value.items()) + "}`"
    if isinstance(value, Circuit):
        return f"`{{failures: {value.failures}, seconds: {value.seconds:g}}}`"
    if value is None or isinstance(value, BaseModel) or value in ((), {}, []):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return _number(value)
    return f"`{value}`"


# --- types, as people write them in YAML ---

# Sections that are shown as tables of their own, or by another's documentation.
_LINKS = {
    "Autoscaling": "[autoscaling](#autoscaling)",
    "Circuit": "[circuit](#circuits)",
    "KeyConfig": "[key](#keys-of-callers)",
    "RouterConfig": "[router](#router)",
    "ScoringConfig": "[scoring](#scoring)",
    "StoreConfig": "[store](#store)",
    **dict.fromkeys(("Steady", "Ramp", "Spike", "Diurnal", "Idle", "Trace"), "[stage](#stages)"),
    **dict.fromkeys(("Constant", "Uniform", "LogNormal"), "[lengths](#lengths)"),
    "Mix": "[mix](#mix)",
    "SLO": "[slo](#slo)",
    "Capacity": "[capacity](#capacity)",
}
_NAMES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
}


def _type(schema: Json, definitions: Json) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _LINKS.get(name) or _type(definitions[name], definitions)
    options = schema.get("oneOf") or schema.get("anyOf", ())
    if options := [part for part in options if part.get("type") != "null"]:
        return " or ".join(dict.fromkeys(_type(part, definitions) for part in options))
    if not schema:  # the registry chooses the class of a model's configuration
        return "[model](#models)"
    if "const" in schema:
        return f"`{_yaml(schema['const'])}`"
    if "enum" in schema:
        *others, last = (f"`{_yaml(value)}`" for value in schema["enum"])
        return f"{', '.join(others)} or {last}"
    if "prefixItems" in schema:
        return "list of " + ", ".join(_type(item, definitions) for item in schema["prefixItems"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], definitions)}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping of names to {_type(schema['additionalProperties'], definitions)}"
    return f"{_NAMES.get(schema.get('type', ''), 'any')}{_bounds(schema)}"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bounds(schema: Json) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most = schema.get("maximum")
    if least is not None and most is not None:
        return f", {_number(least)} to {_number(most)}"
    parts = [f"≥ {_number(least)}"] if least is not None else []
    parts += [f"> {_number(above)}"] if above is not None else []
    parts += [f"≤ {_number(most)}"] if most is not None else []
    return f" {', '.join(parts)}" if parts else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


# --- HTTP ---


def endpoints() -> str:
    """Every path of the API, from its OpenAPI document."""
    from serve.http.api import create_api

    lines = ["| path | what it does |", "|---|---|"]
    for path, operations in create_api().openapi()["paths"].items():
        for method, operation in operations.items():
            text = operation.get("description") or operation.get("summary", "")
            lines.append(f"| `{method.upper()} {path}` | {_line(text)} |")
    return "\n".join([*lines, ""])


def error_classes(kind: type[LLMError] = LLMError) -> list[type[LLMError]]:
    """All errors that a request may end in, by their status."""
    found = [kind, *(below for child in kind.__subclasses__() for below in error_classes(child))]
    return sorted(found, key=lambda error: (error.status, error.code, error.__name__))


def errors() -> str:
    """The errors, and what the router does about each before the caller hears of it."""
    lines = ["| status | `code` | `type` | meaning | another try |", "|---|---|---|---|---|"]
    for error in error_classes():
        if not error.__module__.startswith("deployments."):
            continue  # a test's own
        again = "yes" if error.retryable else "another model" if error.elsewhere else "no"
        meaning = _line((error.__doc__ or "").partition("\n\n")[0])
        if error is LLMError:
            meaning = "The server failed; its log says why."
        lines.append(f"| {error.status} | `{error.code}` | `{error.type}` | {meaning} | {again} |")
    return "\n".join([*lines, ""])


# --- metrics ---


def metrics() -> str:
    """Every metric of `GET /metrics`, as Prometheus names it."""
    from deployments.telemetry.instruments import INSTRUMENTS
    from serve.telemetry.cluster import KNOWN

    rows = []
    for instrument in INSTRUMENTS.values():
        metric = instrument.described()
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        rows.append((name, metric.type, instrument.label_names, metric.documentation))
    rows += [(known.name, "gauge", known.labels, known.documentation) for known in KNOWN]
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for name, kind, labels, meaning in rows:
        listed = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {kind} | {listed} | {meaning} |")
    return "\n".join([*lines, ""])


# --- the command line ---


def commands() -> str:
    """Every command of `llm-cores`: what it does, examples, its arguments and options."""
    from typer.main import get_command

    from ops.cli.app import app

    return "\n".join(_commands(get_command(app), "llm-cores"))


def _commands(group: Any, called: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{called} {name}")
            continue
        yield from (f"## `{called} {name}`", "", command.help, "", command.epilog, "")
        yield from ("| argument or option | default | meaning |", "|---|---|---|")
        for parameter in command.params:
            if parameter.name != "help":
                yield _parameter(parameter)
        yield ""


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
    elif parameter.is_flag:
        name = parameter.opts[0]
    else:
        name = f"{parameter.opts[0]} {parameter.metavar or parameter.name.upper()}"
    shown = parameter.show_default
    known = parameter.default not in (None, False) and not callable(parameter.default)
    default = shown if isinstance(shown, str) else f"`{parameter.default}`" if known else ""
    return f"| `{name}` | {default} | {_line(parameter.help or '')} |"
