"""A Mailchimp Marketing API emulator on a real socket, for development, demonstration and tests.

It stands alone: it shares no code with the client, so that both cannot be wrong together. Numbers such as "MC 4.4" in
its docstrings are sections of the project's fact sheet on the Mailchimp API.
"""

from .app import create_app
from .config import SandboxConfig
from .server import serve

__all__ = ["SandboxConfig", "create_app", "serve"]
