"""The commands of the command line; `rivers_cli` holds their options and help texts, and loads them when they run."""
