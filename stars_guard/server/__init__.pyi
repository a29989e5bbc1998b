"""Public names of ``stars_guard.server``, and where each is at home."""

from stars_guard.server.app import create_app as create_app
from stars_guard.server.app import served_guard as served_guard
from stars_guard.server.config import Limits as Limits
from stars_guard.server.config import ServerConfig as ServerConfig
from stars_guard.server.config import read_server_config as read_server_config
from stars_guard.server.process import bound as bound
from stars_guard.server.process import serve as serve
