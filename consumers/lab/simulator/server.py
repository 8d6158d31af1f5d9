"""The simulated provider's HTTP server."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import orjson
from aiohttp import web

from consumers.lab.simulator.answers import ModelReply, answer, within
from consumers.lab.simulator.bill import Bill, BillLine
from consumers.lab.simulator.faults import FAULTS, Fault
from consumers.lab.simulator.recorded import Recorded, load_recorded
from consumers.lab.simulator.settings import ModelBehaviour, SimulatorSettings
from consumers.lab.simulator.wires import WIRES, Chat, Wire
from router.request.tokens import estimate_tokens
from schemas.usage import Usage

__all__ = ["RunningSimulator", "simulator"]

_JSON = "application/json"
_HANG_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A running server."""

    #: The base URL for an OpenAI client.
    base_url: str
    bill: Bill


@asynccontextmanager
async def simulator(
    settings: SimulatorSettings, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RunningSimulator]:
    """Serve until the context closes. Port 0 takes a free port."""
    bill = Bill()
    recorded = load_recorded(settings.recorded) if settings.recorded else {}
    provider = _Provider(settings, bill, recorded)
    app = web.Application(client_max_size=8 << 20)
    for wire in WIRES:
        for path in wire.paths:
            app.router.add_post(path, provider.handler(wire))
    app.router.add_get("/v1/models", provider.models)
    app.router.add_get("/bill", provider.show_bill)
    app.router.add_get("/health", _health)
    # Calls that hang by design must not delay the shutdown.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    with bill.kept_in(settings.bill_file):
        try:
            site = web.TCPSite(runner, host, port, backlog=4096)
            await site.start()
            actual_port = runner.addresses[0][1]
            yield RunningSimulator(f"http://{host}:{actual_port}/v1", bill)
        finally:
            await runner.cleanup()


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


class _Provider:
    def __init__(
        self,
        settings: SimulatorSettings,
        bill: Bill,
        recorded: Mapping[tuple[str, str], Recorded],
    ) -> None:
        self._settings = settings
        self._bill = bill
        self._recorded = recorded
        self._numbers = itertools.count(1)

    def handler(self, wire: Wire) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._call(wire, request)

        return handle

    async def models(self, request: web.Request) -> web.Response:
        if "anthropic-version" in request.headers:
            names = list(self._settings.models)
            since = "2023-11-14T22:13:20Z"
            common = {"type": "model", "created_at": since, "lifecycle": "active"}
            models = [{**common, "id": name, "display_name": name} for name in names]
            paging = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
            return web.json_response({"data": models, **paging})
        data = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "simulated"}
            for name in self._settings.models
        ]
        return web.json_response({"object": "list", "data": data})

    async def show_bill(self, _: web.Request) -> web.Response:
        lines = [asdict(line) for line in self._bill.lines]
        totals = {"calls": self._bill.count, "cost_micros": self._bill.total_micros}
        return web.Response(body=orjson.dumps({**totals, "lines": lines}), content_type=_JSON)

    async def _call(self, wire: Wire, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = orjson.loads(raw)
            chat = wire.read(body)
        except (ValueError, AttributeError, KeyError, TypeError):
            return _refused(wire, 400, "invalid_body", "a JSON object with a chat was expected")
        if body.get("stream"):
            return _refused(wire, 400, "unsupported", "streaming is not supported here")
        name = request.match_info.get("model") or str(body.get("model"))
        model = self._settings.models.get(name)
        if model is None:
            return _refused(wire, 404, "model_not_found", f"The model {name!r} does not exist")

        line = self._line(wire, name, request, raw)
        self._bill.open_calls += 1
        try:
            return await self._answer(wire, request, chat, model, line)
        except (ConnectionResetError, asyncio.CancelledError):
            line.peer_left = True
            raise
        finally:
            self._bill.open_calls -= 1
            line.closed = time.monotonic()

    async def _answer(
        self,
        wire: Wire,
        request: web.Request,
        chat: Chat,
        model: ModelBehaviour,
        line: BillLine,
    ) -> web.StreamResponse:
        fault_name = request.headers.get("x-sim-fault") or self._drawn_fault(line)
        fault = FAULTS.get(fault_name or "")
        line.fault = fault_name if fault else None
        if fault is not None and not fault.is_billed:
            self._bill.write(line)
            return _faulty(wire, fault)

        reply, usage, latency = self._reply(chat, model, line)
        reply = (fault.reply if fault else None) or reply
        seconds = latency * self._settings.latency_scale / 1000
        line.first_byte = time.monotonic() + seconds
        # Charged before anything is sent: a real model has run by then, whether anybody listens.
        self._bill.book(line, usage, model)
        await asyncio.sleep(seconds)
        line.first_byte = time.monotonic()
        body = wire.reply(str(line.seq), line.model, reply, usage)
        if fault is not None and fault.spoil is not None:
            fault.spoil(wire, body)
        if fault is not None and (fault.manner != "whole" or fault.body is not None):
            return await _spoiled(wire, request, fault, orjson.dumps(body))
        headers = {"x-request-id": str(line.seq), "x-tierline-attempt": line.attempt_id}
        headers |= (fault.headers if fault else None) or {}
        return web.Response(body=orjson.dumps(body), content_type=_JSON, headers=headers)

    def _reply(
        self, chat: Chat, model: ModelBehaviour, line: BillLine
    ) -> tuple[ModelReply, Usage, float]:
        """The model's reply, its usage and its latency in milliseconds."""
        recorded = self._recorded.get((line.request_id, model.tier))
        if recorded is not None:
            usage = Usage(input_tokens=recorded.tokens_in, output_tokens=recorded.tokens_out)
            return ModelReply(recorded.text), usage, recorded.latency_ms

        reply = answer(model, line.model, self._settings.seed, chat.messages, chat.schema)
        reply = within(reply, chat.max_tokens)
        read = sum(estimate_tokens(str(message.get("content") or "")) for message in chat.messages)
        written = estimate_tokens(reply.text) + 2
        usage = Usage(input_tokens=read + 8, output_tokens=min(written, chat.max_tokens or written))
        # From half to one and a half of the median, depending on the body alone.
        return reply, usage, model.latency_ms * (0.5 + int(line.body_hash[:2], 16) / 255)

    def _drawn_fault(self, line: BillLine) -> str | None:
        if not self._settings.faults:
            return None
        key = f"{self._settings.seed}|{line.attempt_id or line.seq}".encode()
        draw = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
        for name, share in self._settings.faults.items():
            if draw < share:
                return name
            draw -= share
        return None

    def _line(self, wire: Wire, model: str, request: web.Request, raw: bytes) -> BillLine:
        return BillLine(
            seq=next(self._numbers),
            wire=wire.name,
            model=model,
            request_id=request.headers.get("x-request-id", ""),
            attempt_id=request.headers.get("x-tierline-attempt", ""),
            idempotency_key=request.headers.get("idempotency-key", ""),
            body_hash=hashlib.blake2b(raw, digest_size=8).hexdigest(),
            received=time.monotonic(),
            open_calls=self._bill.open_calls,
            header_names=sorted({name.lower() for name in request.headers}),
        )


def _refused(wire: Wire, status: int, code: str, message: str) -> web.Response:
    return web.Response(
        body=orjson.dumps(wire.error(status, code, message)), status=status, content_type=_JSON
    )


def _faulty(wire: Wire, fault: Fault) -> web.Response:
    body = fault.body
    if body is None and fault.error is not None:
        body = orjson.dumps(wire.error(fault.status, *fault.error))
    kind = "text/html" if (body or b"").startswith(b"<") else _JSON
    return web.Response(body=body, status=fault.status, headers=fault.headers, content_type=kind)


async def _spoiled(
    wire: Wire, request: web.Request, fault: Fault, reply: bytes
) -> web.StreamResponse:
    """The response to a fault that is in the body, or in how it is sent."""
    transport = request.transport
    if fault.manner == "hang":
        await asyncio.sleep(_HANG_SECONDS)
    if fault.manner == "reset" and transport is not None:
        transport.abort()
        return web.Response()
    if fault.manner in ("cut", "drip"):
        response = web.StreamResponse(headers={"content-length": str(len(reply))})
        response.content_type = _JSON
        await response.prepare(request)
        if fault.manner == "drip":
            for position in range(len(reply)):
                await response.write(reply[position : position + 1])
                await asyncio.sleep(0.3)
            return response
        await response.write(reply[: len(reply) // 2])
        if transport is not None:
            transport.abort()
        return response
    if fault.manner == "short":
        return web.Response(body=reply[: len(reply) // 2], content_type=_JSON)
    return _faulty(wire, fault)
