"""What the settings bind tenants and plans to: the same for whoever takes requests from intake."""

from consumers.settings import BoundSettings, Settings
from router.intake.admission import Admission, Proven
from router.intake.signatures import Key

__all__ = ["admission_of"]


def admission_of(settings: Settings) -> Admission:
    """What the settings bind tenants and plans to."""
    intake, topics = settings.intake, settings.kafka.topics

    def proven(bound: BoundSettings) -> Proven:
        return Proven(bound.tenant, bound.plan)

    return Admission(
        {
            f"{topics.intake}.{name}": proven(bound)
            for name, bound in settings.kafka.intakes.items()
        },
        intake.principal_header or "",
        {name: proven(bound) for name, bound in intake.principals.items()},
        {
            name: Key(key.secret.get_secret_value().encode(), key.tenants, key.plans)
            for name, key in intake.keys.items()
        },
        intake.longest_signature,
        requires_proof=intake.requires_proof,
    )
