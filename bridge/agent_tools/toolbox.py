"""All tools of the configuration, and those of each stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bridge.access import Principal
from bridge.agent_tools.built_in import BUILT_IN
from bridge.agent_tools.http_tool import HttpTools
from bridge.agent_tools.running import RunningTools
from bridge.agent_tools.tool import Tool, ToolServices
from bridge.agent_tools.voice import Voice
from bridge.config.agent_limits import AgentLimits
from bridge.config.agent_tools import ToolConfig
from bridge.outbound.gate import Gate
from bridge.tasks import BackgroundTasks


class Toolbox:
    """Creates the tools that a model may call.

    Args:
        configs: the user's own tools.
        services: the parts of asterisk-bridge that tools use.
        gate: which hosts may be connected to.
    """

    def __init__(self, configs: Iterable[ToolConfig], services: ToolServices, gate: Gate) -> None:
        self._services = services
        self._http = HttpTools(gate)
        self._own: dict[str, Tool] = {}
        self._tasks = BackgroundTasks("tools")
        self.configure(configs)

    def configure(self, configs: Iterable[ToolConfig]) -> None:
        """Replace the user's own tools, for new streams."""
        self._own = {config.id: self._http.tool(config) for config in configs}

    def tools(self, names: Iterable[str], limits: AgentLimits) -> Sequence[Tool]:
        """Return tools by their names; unknown ones are left out.

        Args:
            names: as configured.
            limits: what they may do.
        """
        made = (BUILT_IN[name](limits) if name in BUILT_IN else self._own.get(name) for name in names)
        return [tool for tool in made if tool is not None]

    def open(
        self,
        voice: Voice,
        tools: Iterable[Tool],
        limits: AgentLimits,
        *,
        principal: Principal,
        report: Callable[[str, str], object],
    ) -> RunningTools:
        """Create the runner of one stream's tools; close it with the stream.

        Args:
            voice: the stream.
            tools: those that its model may call.
            limits: what they may do.
            principal: who started the stream.
            report: passes a result to the model: the id of the call of a tool, and the output.
        """
        return RunningTools(
            voice,
            {tool.name: tool for tool in tools},
            limits=limits,
            principal=principal,
            services=self._services,
            report=report,
            tasks=self._tasks,
        )

    async def stop(self) -> None:
        """Cancel all running tools; each one returns its caller to where it was."""
        await self._tasks.stop()
        await self._http.close()
