"""What the routers record, and the collection of all replicas' samples for `GET /metrics`."""
