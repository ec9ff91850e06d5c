"""Makes a key for a caller: shows it once, and what the server is to know of it.

python -m ops.keys NAME
"""

import argparse

import yaml

from serve.access.keys import hash_of, new_key
from serve.config import KeyConfig


def main() -> None:
    """`python -m ops.keys NAME`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="what the key is called in the configuration")
    name = parser.parse_args().name
    key = new_key()
    entry = KeyConfig(name=name, sha256=hash_of(key).hex()).model_dump(exclude_none=True)
    print(f"The key, shown this once:\n\n  {key}\n")
    print("For `server.keys`, or the file that `server.keys_file` names:\n")
    print(yaml.safe_dump([entry], sort_keys=False))


if __name__ == "__main__":
    main()
