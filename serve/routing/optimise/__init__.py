"""The cheapest models that hold a quality requirement."""
