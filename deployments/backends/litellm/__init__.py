"""Models of any provider that LiteLLM knows.

LiteLLM reads its settings when it is imported, so they are set here, before any module of this
package can import it.
"""

import os

# Without these it fetches its price list and a list of headers from the network, retrying for
# seconds, and loads a `.env` file from the working directory.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
# A caller's image URL could name any host that a replica reaches, so nothing is fetched.
os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"
