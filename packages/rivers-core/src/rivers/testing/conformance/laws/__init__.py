"""The laws, one module for each theme; a module's `LAWS` are its laws in order."""
