"""Fixtures that several test files share: each real part is started once."""

pytest_plugins = ["serve_fixtures", "vllm_fixtures"]
