"""Past queries in memory, to fit predictors on."""
