"""An executor that ends steps by script, for tests by users of rivers and by authors of executors."""

from rivers.testing.scripted import Act, Attempt, Script, ScriptedBackend, ScriptedExecutor

__all__ = ["Act", "Attempt", "Script", "ScriptedBackend", "ScriptedExecutor"]
