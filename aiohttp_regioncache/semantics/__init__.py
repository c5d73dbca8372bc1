"""The rules of HTTP that a cache decides by, as pure functions over header lists."""
