"""The trainer's commands, a file for each."""
