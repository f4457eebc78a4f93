"""What the options of all commands have in common: checks, plain values, errors, extras."""
