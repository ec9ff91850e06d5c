"""What was answered before: past queries, what models did on them, and the nearest of them."""
