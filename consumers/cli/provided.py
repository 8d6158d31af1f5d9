"""The providers of a policy's models: configured ones, or the simulated one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from consumers.cli.common import UserError
from consumers.providers.settings import ProviderSettings, under_names, variable_of
from consumers.settings import Settings
from router.policy.table import Policy

__all__ = ["SIMULATED", "is_simulated", "named_as_in", "provided"]

SIMULATED = "simulated"


def named_as_in(policy: Policy, settings: Settings) -> Settings:
    """The settings, with the providers under the names that the policy's models use."""
    names = sorted({model.provider for model in policy.models.values()})
    return settings.model_copy(update={"providers": under_names(settings.providers, names)})


def is_simulated(settings: Settings, policy: Policy) -> bool:
    """True where the policy names the simulated provider, and no setting has its address."""
    names = {model.provider for model in policy.models.values()}
    return SIMULATED in names and SIMULATED not in settings.providers


@asynccontextmanager
async def provided(
    settings: Settings,
    policy: Policy,
    *,
    latency_scale: float = 1.0,
    seed: int = 1,
    may_simulate: bool = True,
) -> AsyncIterator[tuple[Mapping[str, ProviderSettings], str]]:
    """The providers that the policy's models name, and a description of them for people.

    A simulated provider is started when the policy names `simulated` and no setting has its
    address. Raises UserError for any other provider without settings, since its calls could only
    fail and the backlog would end as dead letters. Raises it too where the simulated one may not be
    used: requests on a Kafka of the user's own get made-up answers only on request.
    """
    settings = named_as_in(policy, settings)
    names = {model.provider for model in policy.models.values()}
    if missing := sorted(names - set(settings.providers) - {SIMULATED}):
        name = missing[0]
        models = [key for key, model in policy.models.items() if model.provider == name]
        msg = (
            f"the policy's model {models[0]} is called at the provider {name}, which is not set "
            f"up: set {variable_of(name)}__BASE_URL"
        )
        raise UserError(msg)
    if not is_simulated(settings, policy):
        yield settings.providers, ", ".join(sorted(names))
        return

    if not may_simulate:
        msg = (
            "this policy's models are those of the simulated provider, which would answer the "
            f"requests on {settings.kafka.bootstrap} with made-up text: set TIERLINE_POLICY to a "
            "policy with your own models, or use --simulate if that is what you want"
        )
        raise UserError(msg)

    # It is a server, which takes longer to load than most commands run.
    from consumers.lab.simulator import SimulatorSettings, simulator  # noqa: PLC0415  a server

    async with simulator(SimulatorSettings(seed=seed, latency_scale=latency_scale)) as running:
        own = ProviderSettings(base_url=running.base_url, allow_private=True)
        yield (
            {**settings.providers, SIMULATED: own},
            f"the simulated provider at {running.base_url}",
        )
