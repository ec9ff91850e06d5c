"""Creates an API key: prints it once, with the entry that goes into the configuration.

python -m ops.keys NAME
"""

import argparse

import yaml

from serve.access.keys import hash_of, new_key
from serve.config import KeyConfig


def main() -> None:
    """`python -m ops.keys NAME`."""
    parser = argparse.ArgumentParser(prog="python -m ops.keys", description=__doc__)
    parser.add_argument("name", help="the key's name in the configuration")
    name = parser.parse_args().name
    key = new_key()
    entry = KeyConfig(name=name, sha256=hash_of(key).hex()).model_dump(exclude_none=True)
    print(f"API key (it is not stored and won't be shown again):\n\n  {key}\n")
    print("Add this to `server.keys`, or to the file that `server.keys_file` names:\n")
    print(yaml.safe_dump([entry], sort_keys=False))


if __name__ == "__main__":
    main()
