"""Sites: their configuration in the regions, and what a process knows of them."""
