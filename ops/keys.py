"""Creates an API key: prints it once, with the entry that goes into the configuration."""

import json
import sys

import yaml
from pydantic import ValidationError

from ops.cli.app import alone
from serve.access.keys import hash_of, new_key
from serve.config import KeyConfig


def create(name: str, *, metrics: bool, as_json: bool) -> None:
    """Prints a new key and its entry.

    Args:
        name: the key's name in the configuration.
        metrics: let it read `GET /metrics`.
        as_json: print JSON.

    Raises:
        SystemExit: no key can be called so.
    """
    key = new_key()
    try:
        config = KeyConfig(name=name, sha256=hash_of(key).hex(), metrics=metrics)
    except ValidationError:
        sys.exit(
            "a key's name is 1 to 100 characters of printable ASCII, with no space at its ends"
        )
    entry = config.model_dump(exclude_none=True, exclude_defaults=True)
    if as_json:
        print(json.dumps({"key": key, "entry": entry}, indent=2))
        return
    print(f"API key (it is not stored and won't be shown again):\n\n  {key}\n")
    print("Add this to `server.keys`, or to the file that `server.keys_file` names:\n")
    print(yaml.safe_dump([entry], sort_keys=False))


if __name__ == "__main__":
    alone("keys", "ops.keys")
