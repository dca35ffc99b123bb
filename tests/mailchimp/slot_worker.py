"""A process that takes slots for ever, until it is killed: python slot_worker.py SOCKET.

Between taking and giving back it is listed in the set `holding`, so
that the test can count who really holds a slot.
"""

import asyncio
import os
import sys
from typing import Any

from redis.asyncio import Redis

from mcsync.mailchimp import Lane, RedisSlotStore, SlotLimiter


async def hold_for_ever(redis: Redis, limiter: SlotLimiter, lane: Lane, name: str) -> None:
    raw: Any = redis
    while True:
        async with limiter.hold("account", lane):
            held = await raw.execute_command("SADD", "holding", name)
            assert held == 1
            await asyncio.sleep(0.02)
            await raw.execute_command("SREM", "holding", name)
            await redis.incr("calls")


async def main(socket: str) -> None:
    redis = Redis(unix_socket_path=socket)
    limiter = SlotLimiter(RedisSlotStore(redis))
    names = [(lane, n) for lane, count in ((Lane.BULK, 4), (Lane.LIVE, 1)) for n in range(count)]
    await asyncio.gather(
        *(hold_for_ever(redis, limiter, lane, f"{lane}:{os.getpid()}:{n}") for lane, n in names)
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
