"""Scaling models by the work that they are given, so that answers begin in time."""
