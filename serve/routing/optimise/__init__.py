"""The cheapest models that hold a quality requirement, for a batch or for requests one by one."""
