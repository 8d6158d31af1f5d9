"""LiteLLM's Router on the simulated provider: how many calls it makes in a second of CPU.

Runs in an environment of its own: `peer_litellm.py BASE_URL CALLS IN_FLIGHT` prints one JSON line.
"""

import asyncio
import json
import sys
import time

import litellm

_TEXT = "Order AB-7 for Jane Doe arrived on 2026-03-01 in Leeds. " * 12


async def main() -> None:
    """Call, and say what it took."""
    base_url, calls, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    litellm.suppress_debug_info = True
    parameters = {"model": "openai/sim-small", "api_base": base_url, "api_key": "none"}
    router = litellm.Router(
        model_list=[{"model_name": "small", "litellm_params": parameters}], num_retries=0
    )
    messages = [
        {"role": "system", "content": "Extract. " * 60},
        {"role": "user", "content": _TEXT},
    ]

    async def run(count: int) -> None:
        left = iter(range(count))

        async def caller() -> None:
            for _ in left:
                reply = await router.acompletion(model="small", messages=messages, max_tokens=1024)
                if not reply.choices[0].message.content:
                    raise RuntimeError(reply)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(caller())

    await run(in_flight)  # connections and caches are warm
    cpu, began = time.process_time(), time.perf_counter()
    await run(calls)
    used, took = time.process_time() - cpu, time.perf_counter() - began
    print(json.dumps({"cpu_s": used, "wall_s": took, "calls": calls}))


asyncio.run(main())
