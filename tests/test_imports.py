"""Promise: imports run as requests run, from serve to deployments, and the app imports lightly."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "transformers", "litellm", "vllm", "openai", "llguidance", "accelerate"),
    *("onnxruntime", "sentence_transformers", "sqlalchemy", "faiss", "scipy"),
}
# To know LiteLLM's providers and prices takes no LiteLLM.
SMART = {
    "llms": {
        "models": [{"name": "gpt-4o-mini", "backend": "openai"}],
        "router": {"strategy": "smart"},
    }
}


def test_importing_and_inspecting_the_app_imports_no_heavy_library() -> None:
    code = (
        "import sys, serve.app, serve.preflight; "
        f"serve.preflight.inspect({SMART}); "
        "print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not HEAVY & set(run.stdout.split())


def test_deployments_import_nothing_of_serve() -> None:
    for path in (ROOT / "deployments").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(name.partition(".")[0] == "serve" for name in names), path


ABOVE = {
    "http": {"app"},
    "fleet": {"app", "http"},
    "core": {"app", "http", "fleet"},
    "answer": {"http", "core"},
}
"""What may import a room of serve/, besides itself."""


def test_within_serve_imports_run_from_http_to_the_core_to_all_else() -> None:
    serve = ROOT / "serve"
    for path in serve.rglob("*.py"):
        room = path.relative_to(serve).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            module = (isinstance(node, ast.ImportFrom) and node.module) or ""
            if module.startswith("serve."):
                imported = module.split(".")[1]
                above = ABOVE.get(imported)
                assert above is None or room in {imported, *above}, f"{path} imports {module}"
                assert room != "routing" or imported == "routing", f"{path} imports {module}"
