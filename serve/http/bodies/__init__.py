"""Bodies of requests: reading them within limits, checking them, and what is said of faults."""
