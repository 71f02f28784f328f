"""Studies, and runs that can be killed at any time: journal, workers, stages, summary, export."""
