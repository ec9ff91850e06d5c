"""Creates an API key: prints it once, with the entry that goes into the configuration.

python -m ops.keys NAME [--metrics]
"""

import argparse

import yaml

from serve.access.keys import hash_of, new_key
from serve.config import KeyConfig


def main() -> None:
    """`python -m ops.keys NAME [--metrics]`."""
    parser = argparse.ArgumentParser(prog="python -m ops.keys", description=__doc__)
    parser.add_argument("name", help="the key's name in the configuration")
    parser.add_argument("--metrics", action="store_true", help="let it read GET /metrics")
    given = parser.parse_args()
    key = new_key()
    config = KeyConfig(name=given.name, sha256=hash_of(key).hex(), metrics=given.metrics)
    entry = config.model_dump(exclude_none=True, exclude_defaults=True)
    print(f"API key (it is not stored and won't be shown again):\n\n  {key}\n")
    print("Add this to `server.keys`, or to the file that `server.keys_file` names:\n")
    print(yaml.safe_dump([entry], sort_keys=False))


if __name__ == "__main__":
    main()
