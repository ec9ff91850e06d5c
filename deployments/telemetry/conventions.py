"""OpenTelemetry's semantic conventions for generative AI, as Prometheus names: here only.

They are still in development, so that what they rename changes here alone. A Prometheus name has
underscores for dots, and the unit at its end, as OpenTelemetry's own exporters write it.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics (semantic conventions
1.43). `server.address` and `server.port` are left out: they say no more than the model does.
"""

from collections.abc import Mapping

CLIENT_DURATION = "gen_ai_client_operation_duration_seconds"
CLIENT_FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds"
CLIENT_TOKENS = "gen_ai_client_token_usage"
SERVER_DURATION = "gen_ai_server_request_duration_seconds"
SERVER_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"
SERVER_TOKEN_TIME = "gen_ai_server_time_per_output_token_seconds"

OPERATION, PROVIDER = "gen_ai_operation_name", "gen_ai_provider_name"
REQUEST_MODEL, RESPONSE_MODEL = "gen_ai_request_model", "gen_ai_response_model"
ERROR, TOKEN_TYPE = "error_type", "gen_ai_token_type"
# What every metric of a call has; the model that responded is empty where none did.
CALL = (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL)

CHAT, EMBEDDINGS = "chat", "embeddings"
INPUT, OUTPUT = "input", "output"

# The upper bounds of buckets that the conventions advise: seconds, and tokens.
DURATION_BUCKETS = tuple(0.01 * 2**power for power in range(14))
TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TOKEN_TIME_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

# Backends whose names differ from the conventions' names of their providers.
_PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def provider_of(backend: str) -> str:
    """The name of a backend's provider."""
    return _PROVIDERS.get(backend, backend)
