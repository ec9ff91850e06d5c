"""What operating the application needs: the demo, its load, its deployment."""
