"""Small values that travel in specs and results: their encoding as data, and their moves in and out of the store."""
