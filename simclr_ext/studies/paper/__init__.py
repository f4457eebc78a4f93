"""The paper's studies, a file each."""
