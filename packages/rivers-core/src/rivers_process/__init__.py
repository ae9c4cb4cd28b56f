"""Linux process code that the packages of rivers share; it imports the standard library alone.

The process of rivers-worker that faces the network uses it and imports neither `rivers` nor what that brings.
"""
