"""The simulated provider: a real HTTP server that answers, errs and bills like a model's."""

from consumers.lab.simulator.bill import Bill, BillLine
from consumers.lab.simulator.server import RunningSimulator, simulator
from consumers.lab.simulator.settings import DEFAULT_MODELS, ModelBehaviour, SimulatorSettings

__all__ = [
    "DEFAULT_MODELS",
    "Bill",
    "BillLine",
    "ModelBehaviour",
    "RunningSimulator",
    "SimulatorSettings",
    "simulator",
]
