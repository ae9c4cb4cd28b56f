"""The code repository and its runs."""
