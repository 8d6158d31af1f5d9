"""How each simulated model behaves."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from router.policy.table import Price

__all__ = ["DEFAULT_MODELS", "ModelBehaviour", "SimulatorSettings"]

Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelBehaviour(_Frozen):
    """One simulated model."""

    #: The tier whose recorded outcomes it may replay.
    tier: str
    #: The share of plain requests that it answers well.
    quality: Share
    #: How much a hard request lowers this share.
    strain: Share = 0.5
    latency_ms: Annotated[float, Field(ge=0)]
    input_price: Decimal
    output_price: Decimal
    #: The share of good JSON answers that come in a code fence with some prose.
    fence_rate: Share = 0.0

    @property
    def price(self) -> Price:
        """The price in the routing policy's form."""
        return Price(
            input=self.input_price,
            output=self.output_price,
            source="simulated provider",
            as_of="2026-11-01",
        )


def _model(tier: str, quality: float, latency: float, prices: str, **more: float) -> ModelBehaviour:
    read, written = prices.split("/")
    return ModelBehaviour(
        tier=tier,
        quality=quality,
        latency_ms=latency,
        input_price=Decimal(read),
        output_price=Decimal(written),
        **more,
    )


DEFAULT_MODELS: Mapping[str, ModelBehaviour] = {
    "sim-small": _model("low", 0.86, 60, "0.10/0.40", strain=0.6, fence_rate=0.3),
    "sim-small-b": _model("low", 0.84, 80, "0.12/0.45", strain=0.6),
    "sim-medium": _model("balanced", 0.92, 120, "0.50/2.00", strain=0.45, fence_rate=0.1),
    "sim-medium-b": _model("balanced", 0.91, 150, "0.60/2.20", strain=0.45),
    "sim-large": _model("premium", 0.995, 250, "5.00/20.00", strain=0.12),
    "sim-large-b": _model("premium", 0.99, 280, "5.50/21.00", strain=0.12),
}


class SimulatorSettings(_Frozen):
    """A simulated provider."""

    seed: int = 1
    models: Mapping[str, ModelBehaviour] = DEFAULT_MODELS
    #: Multiplies every latency; 0 answers at once.
    latency_scale: Annotated[float, Field(ge=0)] = 1.0
    #: Recorded outcomes as JSON Lines (`.gz` too), answered by request id and tier.
    recorded: Path | None = None
    #: The file for the bill; a call's line is on disk before its reply starts.
    bill_file: Path | None = None
    #: The share of calls with each fault of `faults.py`, drawn from the seed.
    faults: Mapping[str, Share] = Field(default_factory=dict)
