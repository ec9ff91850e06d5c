"""Smart routing in the server: one decider for all router replicas, and what it learns from."""
