"""The command ``stars-guard``. It needs the extra ``cli``; see :mod:`stars_guard.cli.app`."""
