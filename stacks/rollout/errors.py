"""What can go wrong, in words for the person at the shell."""


class RolloutError(Exception):
    """Something that cannot be; the message says what, where and what to do instead."""


class SourceDownError(Exception):
    """The metrics cannot be read now. Nothing is promoted until they can."""


class BusyError(Exception):
    """Somebody else's run of the engine holds the stack; it is tried again."""


class LeaseLostError(RolloutError):
    """Another driver has taken over; this one must not touch anything any more."""


class TerminatedError(BaseException):
    """SIGTERM, as CI sends it: the lease is given back, and the journal says where to go on."""
