"""The console: its page, and what the page shows."""
