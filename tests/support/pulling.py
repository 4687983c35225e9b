"""A puller with its stores in memory, noting the lines that Docker's clients would see."""

from support.stores import MemoryContent, MemoryImages, MemoryLayers

from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.distribution.progress import Event, render
from rorqual.distribution.pull import Puller, PullResult
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.signatures.check import SignatureCheck
from rorqual.distribution.transport import Transport
from rorqual.oci import platform, reference


class Client:
    """`async with` it."""

    def __init__(
        self, options: RegistryOptions | None = None, *, attempts: int = 5, signatures: SignatureCheck | None = None
    ) -> None:
        self.options = options or RegistryOptions()
        self.content, self.images, self.layers = MemoryContent(), MemoryImages(), MemoryLayers()
        self.transport = Transport(self.options)
        self.lines: list[dict[str, object]] = []
        self.puller = Puller(
            self.transport,
            self.options,
            content=self.content,
            layers=self.layers,
            images=self.images,
            policy=RetryPolicy(attempts=attempts, base_s=0.01, cap_s=0.02),
            signatures=signatures,
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    def note(self, event: Event) -> None:
        self.lines.append(render(event))

    async def pull(self, name: str, credentials: Credentials = ANONYMOUS, want: str = "") -> PullResult:
        wanted = platform.parse(want) if want else None
        return await self.puller.pull(
            reference.parse(name), credentials=credentials, platform=wanted, progress=self.note
        )

    def statuses(self, id: str) -> list[object]:
        """What the line `id` went through, repetitions left out."""
        seen: list[object] = []
        for line in self.lines:
            if line.get("id") == id and (not seen or seen[-1] != line["status"]):
                seen.append(line["status"])
        return seen

    def check_nothing_named(self) -> None:
        assert self.images.names == {} and self.layers.committed == {} and self.layers.unpacked == set()
