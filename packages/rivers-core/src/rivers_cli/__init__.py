"""The program `rivers`: its options and help texts. It imports rivers only for a command that needs it."""
