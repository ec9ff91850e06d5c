"""The configuration of a model on a vLLM or SGLang server elsewhere."""

from typing import Literal

from deployments.config import HostedConfig


class EndpointConfig(HostedConfig):
    """A model on a vLLM or SGLang server elsewhere, called by its OpenAI API."""

    backend: Literal["vllm", "sglang"]
    """What kind of server it is."""
    hostname: str
    """The server's URL, with or without `/v1`."""
    whole: bool = False
    """Whether to ask the server for a whole answer if the caller wants one, instead of always for a
    stream. That is less work, but then `timeout` and `first_token_timeout` are limits for the whole
    answer, and one that breaks off can't be continued."""

    @property
    def base_url(self) -> str:
        """The server's API root, whether or not `hostname` was written with it."""
        root = self.hostname.rstrip("/")
        return root if root.endswith("/v1") else root + "/v1"
