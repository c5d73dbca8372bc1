"""The way to origins: which address, over which connections, and how well they are."""
