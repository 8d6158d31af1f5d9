"""The runtime against Confluent's Parallel Consumer in its transactional mode, run by run in turn.

The peer is `ParallelPeer.java`, compiled here; library and compiler come as Maven artifacts into
`build/peers`, so that any Java runtime will do.
"""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from jgo.maven import MavenContext

from consumers.lab.broker.java import find_java
from consumers.settings import Settings
from schemas.base import Tier
from tests.bench.harness import Measured, sized
from tests.bench.runtime import COUNT, IN_FLIGHT, one_partition, runtime_once

__all__ = ["measure_parallel"]

#: The first pairs are not counted. Java compiles what is hot only after a while: in one process the
#: peer took 4.2, 1.5, 1.2 and 1.2 s in its runs number 1, 7, 13 and 19.
WARM_UPS, RUNS = sized(12, 0), sized(5, 1)
_HOME = Path("build/peers/parallel")
_SOURCE = Path(__file__).with_name("ParallelPeer.java")
_LIBRARIES = (
    "io.confluent.parallelconsumer:parallel-consumer-core:0.5.3.3",
    "org.slf4j:slf4j-simple:1.7.36",
)
_COMPILER = "org.eclipse.jdt:ecj:3.43.0"


async def measure_parallel(bootstrap: str) -> list[Measured]:
    """Seconds for the same records, and their ratio."""
    java = find_java()
    classpath = await asyncio.to_thread(_build, java)
    theirs, ours = [], []
    async with _peer(java, classpath, bootstrap) as peer_once:
        for number in range(WARM_UPS + RUNS):
            settings = await one_partition(bootstrap, f"runtime{number}.")
            theirs.append(await peer_once(settings))
            ours.append(await runtime_once(settings))
    theirs, ours = theirs[WARM_UPS:], ours[WARM_UPS:]
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [
        Measured("runtime alone, 10,000 records, 100 in flight, 0-5 ms", ours, "s", "-"),
        Measured("Confluent Parallel Consumer, transactional, the same", theirs, "s", "-"),
        Measured("runtime / Parallel Consumer, time", ratios, "", "<= 1"),
    ]


@contextlib.asynccontextmanager
async def _peer(
    java: Path, classpath: str, bootstrap: str
) -> AsyncIterator[Callable[[Settings], Awaitable[float]]]:
    """The peer's process, kept between the runs so that it stays warm."""
    process = await asyncio.create_subprocess_exec(
        *(str(java), "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"),
        *("-cp", classpath, "ParallelPeer", bootstrap, str(COUNT), str(IN_FLIGHT)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    asked, said = process.stdin, process.stdout
    if asked is None or said is None:
        raise RuntimeError

    async def once(settings: Settings) -> float:
        kafka = settings.kafka
        names = kafka.topics.tier(Tier.LOW), kafka.topics.results, f"{kafka.prefix}parallel"
        asked.write(f"{' '.join(names)}\n".encode())
        return float(await said.readline())

    try:
        yield once
    finally:
        # The end of its input ends it, unless it hangs.
        asked.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _jars(maven: MavenContext, tries: int = 3) -> list[str]:
    """The libraries with all that they need; a mirror may hesitate."""
    wanted = [maven.create_dependency(library) for library in _LIBRARIES]
    try:
        roots, others = maven.resolver.resolve(wanted)
        return [str(Path(found.artifact.resolve()).absolute()) for found in (*roots, *others)]
    except OSError:
        if tries == 1:
            raise
        return _jars(maven, tries - 1)


def _build(java: Path) -> str:
    """Fetch the libraries once, compile the peer when it has changed; the classpath of both."""
    classes, noted = (_HOME / "classes").absolute(), _HOME / "classpath"
    maven = MavenContext(repo_cache=_HOME / "repository")
    if not noted.exists():
        jars = _jars(maven)
        noted.write_text(":".join(jars))
    jars_path = noted.read_text()
    built = classes / "ParallelPeer.class"
    if not built.exists() or built.stat().st_mtime < _SOURCE.stat().st_mtime:
        compiler = maven.create_dependency(_COMPILER).artifact.resolve()
        options = ("-17", "-nowarn", "-proc:none", "-d", str(classes), "-cp", jars_path)
        subprocess.run([str(java), "-jar", str(compiler), *options, str(_SOURCE)], check=True)
    return f"{classes}:{jars_path}"
