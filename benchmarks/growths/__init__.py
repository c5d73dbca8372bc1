"""What grows: each module is one thing of which there can be more."""
