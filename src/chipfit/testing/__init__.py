"""Conformance checks that the author of a target, an algorithm or a task runs on it."""
