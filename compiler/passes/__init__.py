"""Passes over the graph IR: one pass, one file, one name, each `run(graph) -> Graph`."""
