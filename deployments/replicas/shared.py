"""A Ray Serve replica of all hosted models of one kind, which need no process each."""

import asyncio
from typing import Any

from deployments.registry import parse
from deployments.replicas.error_log import log_known_errors_in_one_line
from deployments.replicas.hosted import HostedModels
from deployments.telemetry.reporting import report_metrics


class SharedReplica(HostedModels):
    """One replica of the deployment that hosted models share."""

    def __init__(self) -> None:
        super().__init__()
        log_known_errors_in_one_line()
        self._reporter = report_metrics()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the models; Ray Serve calls it at the start and on each change.

        Args:
            user_config: `models`, a list of configurations as they are written.
        """
        await self.configure([parse(model) for model in user_config["models"]])

    async def close(self) -> None:
        """Closes all models, whether they still answer or not."""
        try:
            await super().close()
        finally:
            await asyncio.to_thread(self._reporter.close)

    __del__ = close  # awaited by Ray Serve, at the end of the replica
