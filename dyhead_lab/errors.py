"""The one exception that means: you can mend this yourself, and here is how."""


class UserError(Exception):
    """A mistake in a file, an argument or the machine, told so that its owner can mend it.

    The message names the thing that is wrong and what to do. The command line prints it without a traceback.
    """
