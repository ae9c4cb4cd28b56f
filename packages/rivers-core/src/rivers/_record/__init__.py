"""Run records: the folder that a run writes, and the view of a run that is read from it."""
