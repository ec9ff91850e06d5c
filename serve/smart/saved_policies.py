"""The policies in a store's database: those of each server, for each set of prices."""

import time
from collections.abc import Mapping
from typing import Any

from deployments.store.sql.state import State

_PREFIX = "policies:"
_MOST_SERVERS = 50  # whose policies are kept in a store


def load(state: State, priced: str, server: str) -> dict[str, Any]:
    """A server's policies; if it has none yet, the latest ones of a server with the same prices,
    which are a better start than none. Those of servers that saved long ago are deleted.

    Args:
        state: of the store's database.
        priced: identifies the prices.
        server: identifies the server among those that share the store.

    Returns:
        What `save` was given; empty if no server has saved any.
    """
    kept = state.with_prefix(_PREFIX)
    # Before servers had names, a state was the policies alone.
    saved = {
        name: value if "policies" in value else {"at": 0.0, "policies": value}
        for name, value in sorted(kept.items(), key=lambda item: item[1].get("at", 0.0))
    }
    state.delete(list(saved)[:-_MOST_SERVERS])
    own = saved.get(_name(priced, server))
    others = [value for name, value in saved.items() if name.startswith(_PREFIX + priced)]
    found = own or (others[-1] if others else {"policies": {}})
    return dict(found["policies"])


def save(state: State, priced: str, server: str, policies: Mapping[str, Any]) -> None:
    """Replaces a server's policies, as `SharedPolicies.to_dict` gives them; see `load`."""
    state.set(_name(priced, server), {"at": time.time(), "policies": policies})


def _name(priced: str, server: str) -> str:
    return f"{_PREFIX}{priced}:{server}"
