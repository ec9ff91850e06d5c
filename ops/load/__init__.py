"""Load tests: a profile becomes a schedule, which is driven open loop and recorded in a folder."""
