"""For tests: an executor that ends steps by script, for users of rivers and for authors of executors."""

from rivers.testing.scripted import Act, Attempt, Script, ScriptedBackend, ScriptedExecutor

__all__ = ["Act", "Attempt", "Script", "ScriptedBackend", "ScriptedExecutor"]
