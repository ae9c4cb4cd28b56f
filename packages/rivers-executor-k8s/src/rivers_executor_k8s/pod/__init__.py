"""Pods as data: manifests, names, states and ends. Pure, without I/O."""
