"""Every error that a user can meet. A message says what was wrong, where, and what to do, in one line."""


class ChipfitError(Exception):
    """Base of all errors that chipfit raises on purpose.

    `exit_status` is what the command line returns: 2 for unusable input, 1 for a limit that cannot be met.
    """

    exit_status = 2


class InvalidInput(ChipfitError):
    """A file, value or option that cannot be used as it is."""


class InvalidGraph(ChipfitError):
    """A network that contradicts itself: a missing input, shapes that do not fit, a cycle."""


class UnsupportedOperator(ChipfitError):
    """An operator that chipfit knows of but cannot run or export."""


class MissingDependency(ChipfitError):
    """An optional tool or library that a command needs is not installed."""


class JournalMismatch(ChipfitError):
    """A run directory that belongs to another study, or to another version of it."""


class StorageFull(ChipfitError):
    """A file could not be written; what had been written before is intact."""


class LimitImpossible(ChipfitError):
    """No network in the space meets a limit; the message gives the nearest feasible point."""

    exit_status = 1


class TrainingFailed(ChipfitError):
    """A network could not be trained: its loss is not a number, or the user's own training raised an error."""


class ScoreFailed(ChipfitError):
    """A zero-shot score has no finite value for a network: it does not run, or has nothing that the score is about."""
