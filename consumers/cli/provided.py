"""Where models are called: the configured providers, with the simulated one where none is."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from consumers.cli.common import UserError
from consumers.providers.settings import ProviderSettings, under_names, variable_of
from consumers.settings import Settings
from router.policy.table import Policy

__all__ = ["SIMULATED", "named_as_in", "provided"]

SIMULATED = "simulated"


def named_as_in(policy: Policy, settings: Settings) -> Settings:
    """The settings, with providers under the names that the policy's models give them."""
    names = sorted({model.provider for model in policy.models.values()})
    return settings.model_copy(update={"providers": under_names(settings.providers, names)})


@asynccontextmanager
async def provided(
    settings: Settings,
    policy: Policy,
    *,
    latency_scale: float = 1.0,
    seed: int = 1,
    may_simulate: bool = True,
) -> AsyncIterator[tuple[Mapping[str, ProviderSettings], str]]:
    """The providers that the policy's models name, and who they are in words.

    A simulated provider is started when the policy names `simulated` and no settings say where it
    is. Raises UserError for any other provider without settings: its calls could only fail, and the
    backlog would end as dead letters; and for the simulated one where it may not be: requests of
    somebody's own Kafka are not answered with made-up text unless that is asked for.
    """
    settings = named_as_in(policy, settings)
    wanted = {model.provider for model in policy.models.values()}
    if missing := sorted(wanted - set(settings.providers) - {SIMULATED}):
        name = missing[0]
        models = [key for key, model in policy.models.items() if model.provider == name]
        msg = (
            f"the policy's model {models[0]} is called at the provider {name}, and no setting says "
            f"where that is: set {variable_of(name)}__BASE_URL"
        )
        raise UserError(msg)
    if SIMULATED not in wanted or SIMULATED in settings.providers:
        yield settings.providers, ", ".join(sorted(wanted))
        return

    if not may_simulate:
        msg = (
            "this policy's models are those of the simulated provider, which would answer the "
            f"requests on {settings.kafka.bootstrap} with made-up text: name a policy with models "
            "of yours in TIERLINE_POLICY, or say --simulate if that is what you want"
        )
        raise UserError(msg)

    # It is a server, which takes longer to load than most commands run.
    from consumers.simulator import SimulatorSettings, simulator  # noqa: PLC0415

    async with simulator(SimulatorSettings(seed=seed, latency_scale=latency_scale)) as running:
        own = ProviderSettings(base_url=running.base_url, allow_private=True)
        yield (
            {**settings.providers, SIMULATED: own},
            f"the simulated provider at {running.base_url}",
        )
