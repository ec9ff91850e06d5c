"""Promise: where a library has lost a part that we replace or override, its backend won't start."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from deployments.internals import replace, require

# What each backend module relies on, as statements that take it away.
GONE = {
    "deployments.litellm_backend": [
        "from litellm.litellm_core_utils import url_utils; del url_utils.validate_url",
        "import litellm; del litellm.user_url_validation",
        "import litellm; del litellm.drop_params",
    ],
    "deployments.openai_backend": ["import openai; del openai.AsyncStream._iter_events"],
}


@pytest.mark.parametrize(
    ("module", "without"),
    [(module, without) for module, statements in GONE.items() for without in statements],
)
def test_a_backend_does_not_start_without_what_it_replaces(module: str, without: str) -> None:
    code = f"{without}\nimport {module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "RuntimeError: this version of" in run.stderr
    assert without.rpartition(".")[2] in run.stderr


def test_what_is_there_is_replaced() -> None:
    library = SimpleNamespace(guard=1)
    replace(library, "guard", 2)
    assert library.guard == 2
    with pytest.raises(RuntimeError, match=r"no SimpleNamespace\.fence, which we rely on"):
        replace(library, "fence", 2)
    with pytest.raises(RuntimeError, match="fence"):
        require(library, "guard", "fence")
