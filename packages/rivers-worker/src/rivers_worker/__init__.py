"""The step server: `rivers-worker serve` runs one attempt of one step, and `rivers_worker.client` dials it.

It knows nothing of where it runs: whoever starts it, in a pod, over ssh or as a process, reads the one line with which
it announces itself and calls it by that. Nothing is imported here: the server's process imports as little as it can.
"""
