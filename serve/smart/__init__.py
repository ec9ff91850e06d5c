"""Smart routing in the server: one decider for all router replicas, which learns from answers."""
