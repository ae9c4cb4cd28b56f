"""The step server: `rivers-worker serve` runs one attempt of one step, and `rivers_worker.client` dials it.

It does not depend on where it runs: the process that starts it, in a pod, over ssh or locally, reads the line in which
it announces itself, and calls it. Nothing is imported here: the server's process imports as little as possible.
"""
