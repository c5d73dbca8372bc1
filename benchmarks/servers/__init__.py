"""What is measured: each module is one process."""
