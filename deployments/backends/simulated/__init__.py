"""A model made of time: it takes as long as a real one would, and computes nothing."""
