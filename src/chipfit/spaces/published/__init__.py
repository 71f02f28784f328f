"""Search spaces of published tables as open graphs, so that costs and scores are of the very networks of the tables."""
