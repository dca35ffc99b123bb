"""The sandbox as a whole: its world and its plan of faults."""

from __future__ import annotations

from typing import Any

from ..config import SandboxConfig, patched
from ..faults import FaultPlan
from ..world import World


class Sandbox:
    """What lives as long as the process."""

    def __init__(self, config: SandboxConfig) -> None:
        self.world = World(config)
        self.faults = FaultPlan(self.world.config.faults)

    def reset(self) -> None:
        """Back to the start. Calls still in flight keep the world they came into, so they cannot disturb the new one."""
        self.world.courier.stop()
        self.world.mandrill.stop()
        self.world = World(self.world.initial)
        self.faults = FaultPlan(self.world.config.faults)

    def configure(self, changes: dict[str, Any]) -> None:
        """Change settings while running; ValueError if one is unknown or of the wrong kind.

        `ascii_lowering` acts on lists made later: members are filed under their hash.
        """
        config = patched(self.world.config, changes)
        if "faults" in changes:
            targeted = self.faults.targeted
            self.faults = FaultPlan(config.faults)
            self.faults.targeted = targeted
        self.world.config = config
