"""The commands of the command line, one file each.

A file exports `Command`, a frozen dataclass whose fields are the flags, and
`run(command, console) -> int`, which returns the exit status.
"""
