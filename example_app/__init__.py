"""The example: an origin in Tokyo, regions around the world, edges in front of them."""
