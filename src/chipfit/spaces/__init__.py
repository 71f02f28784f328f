"""Edits that open decisions in a network, and what can be said of a space before a search."""
