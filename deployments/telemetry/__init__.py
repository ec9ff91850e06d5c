"""What every process of the service counts and measures, and how it reports that."""
