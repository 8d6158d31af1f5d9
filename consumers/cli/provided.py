"""Where models are called: the configured providers, with the simulated one where none is."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from consumers.cli.common import UserError
from consumers.providers.settings import ProviderSettings
from consumers.settings import Settings
from router.policy.table import Policy

__all__ = ["provided"]

SIMULATED = "simulated"


@asynccontextmanager
async def provided(
    settings: Settings, policy: Policy, *, latency_scale: float = 1.0, seed: int = 1
) -> AsyncIterator[tuple[Mapping[str, ProviderSettings], str]]:
    """The providers that the policy's models name, and who they are in words.

    A simulated provider is started when the policy names `simulated` and no settings say where it
    is. Raises UserError for any other provider without settings: its calls could only fail, and the
    backlog would end as dead letters.
    """
    wanted = {model.provider for model in policy.models.values()}
    if missing := sorted(wanted - set(settings.providers) - {SIMULATED}):
        name = missing[0]
        models = [key for key, model in policy.models.items() if model.provider == name]
        msg = (
            f"the policy's model {models[0]} is called at the provider {name}, and no setting says "
            f"where that is: set TIERLINE_PROVIDERS__{name.upper()}__BASE_URL"
        )
        raise UserError(msg)
    if SIMULATED not in wanted or SIMULATED in settings.providers:
        yield settings.providers, ", ".join(sorted(wanted))
        return

    from consumers.simulator import SimulatorSettings, simulator

    async with simulator(SimulatorSettings(seed=seed, latency_scale=latency_scale)) as running:
        own = ProviderSettings(base_url=running.base_url, allow_private=True)
        yield (
            {**settings.providers, SIMULATED: own},
            f"the simulated provider at {running.base_url}",
        )
