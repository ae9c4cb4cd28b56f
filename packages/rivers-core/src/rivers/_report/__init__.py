"""The picture of a run: one HTML file, and the same page served while the run goes on."""
