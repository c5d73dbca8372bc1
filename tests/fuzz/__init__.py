"""Hostile octets for every parser: found by hypothesis in each test run, and by atheris for as long as one likes."""
