"""Which policies are being prepared: each of them once, and few at a time."""

# Policies that may be in preparation at once, of each kind of owner: each takes tens of
# milliseconds, and callers choose what they ask for. So what the server is configured with waits
# for a few of callers' at most.
_MOST, _MOST_OF_CALLER = 8, 2


class Claims:
    """The names of policies that are being prepared. Not thread-safe."""

    def __init__(self) -> None:
        self._owners: dict[str, str | None] = {}  # by the policy's name

    def take(self, name: str, owner: str | None) -> bool:
        """Claims a policy, until it is released.

        Args:
            name: the policy's, from `policy_name`.
            owner: see `Question.owner`.

        Returns:
            Whether it is to be prepared now; if not, it is being prepared already, or has to wait
            for others.
        """
        owners = list(self._owners.values())
        of_kind = [other for other in owners if (other is None) == (owner is None)]
        if name in self._owners or len(of_kind) >= _MOST:
            return False
        if owner is not None and owners.count(owner) >= _MOST_OF_CALLER:
            return False
        self._owners[name] = owner
        return True

    def release(self, name: str) -> None:
        """Ends a claim, if there is one."""
        self._owners.pop(name, None)
