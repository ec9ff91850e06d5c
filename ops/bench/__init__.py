"""Benchmarks: each is a module that ends with one line of JSON."""
