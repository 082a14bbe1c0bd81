"""Who runs this process, as the operating system has it and not as the environment says."""

from __future__ import annotations

import getpass
import os


def local_user() -> str:
    """The login name of the process's user; `uid 65532` where the user has no name.

    The variables LOGNAME and USER are not looked at: whoever types the command sets them.
    """
    try:
        import pwd
    except ImportError:  # not a Unix
        return getpass.getuser()
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user often has none
        return f"uid {number}"
