"""The one exception that stands for something a user can correct."""


class UserError(Exception):
    """A problem that the user can correct; the command line prints one sentence and exits with 2.

    The message is a single sentence that says what is wrong, where (file, subject, segment,
    volume) and what to do next. It is the only exception that the command line turns into
    exit code 2; every other exception is a bug and exits with 1.
    """
