"""The ordered work: graph, levels and batches, the frontier, specs."""
