"""The input checks shared by the losses and by the operators written in Python."""
