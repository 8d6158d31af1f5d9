"""The simulated provider: a real HTTP server that answers, errs and bills like a model's."""

from consumers.simulator.bill import Bill, BillLine
from consumers.simulator.server import RunningSimulator, simulator
from consumers.simulator.settings import DEFAULT_MODELS, ModelBehaviour, SimulatorSettings

__all__ = [
    "DEFAULT_MODELS",
    "Bill",
    "BillLine",
    "ModelBehaviour",
    "RunningSimulator",
    "SimulatorSettings",
    "simulator",
]
