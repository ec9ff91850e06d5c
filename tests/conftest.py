"""Fixtures that several test files share: each real part is started once."""

pytest_plugins = ["vllm_fixtures", "serve_fixtures", "postgres_fixtures"]
