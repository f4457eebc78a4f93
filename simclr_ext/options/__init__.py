"""Shared by the options of all commands: parser, checks, serialization, errors, extras."""
