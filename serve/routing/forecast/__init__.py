"""What a query will be worth and cost on each model."""
