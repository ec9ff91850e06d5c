"""What is searched of past queries, in memory."""
