"""The flags that `swarm init`, `swarm update` and `swarm ca` share, and what is said of keys and tokens."""

from __future__ import annotations

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.command import Context
    from rorqual.cli.flags import Flag, Values

    JSON = dict[str, Any]

SECOND = 1_000_000_000
CERT_EXPIRY: Flag = (
    "cert-expiry",
    "",
    "duration",
    90 * 24 * 3600 * SECOND,
    "Validity period for node certificates (ns|us|ms|s|m|h) (default 2160h0m0s)",
)
EXTERNAL_CA: Flag = (
    "external-ca",
    "",
    "external-ca",
    (),
    "Specifications of one or more certificate signing endpoints",
)
FLAGS: tuple[Flag, ...] = (
    CERT_EXPIRY,
    (
        "dispatcher-heartbeat",
        "",
        "duration",
        5 * SECOND,
        "Dispatcher heartbeat period (ns|us|ms|s|m|h) (default 5s)",
    ),
    EXTERNAL_CA,
    ("max-snapshots", "", "uint", 0, "Number of additional Raft snapshots to retain"),
    ("snapshot-interval", "", "uint", 10000, "Number of log entries between Raft snapshots (default 10000)"),
    ("task-history-limit", "", "int", 5, "Task history retention limit (default 5)"),
)


def changed(spec: JSON, flags: Values) -> JSON:
    """`spec` with what the flags that were given say."""
    for flag, group, key in (
        ("task-history-limit", "Orchestration", "TaskHistoryRetentionLimit"),
        ("dispatcher-heartbeat", "Dispatcher", "HeartbeatPeriod"),
        ("cert-expiry", "CAConfig", "NodeCertExpiry"),
        ("max-snapshots", "Raft", "KeepOldSnapshots"),
        ("snapshot-interval", "Raft", "SnapshotInterval"),
    ):
        if flags.changed(flag):
            spec.setdefault(group, {})[key] = flags.integer(flag)
    if flags.changed("external-ca"):
        spec.setdefault("CAConfig", {})["ExternalCAs"] = external_cas(flags)
    if flags.changed("autolock"):
        spec["EncryptionConfig"] = {"AutoLockManagers": flags.boolean("autolock")}
    return spec


def external_cas(flags: Values) -> list[JSON]:
    """`protocol=cfssl,url=https://…` of each. Raises: CommandError."""
    found: list[JSON] = []
    for text in flags.many("external-ca"):
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        if not fields.get("protocol") or not fields.get("url"):
            missing = "protocol" if not fields.get("protocol") else "url"
            raise CommandError(f"the external-ca option needs a {missing}= parameter")
        found.append({"Protocol": fields.pop("protocol"), "URL": fields.pop("url"), "Options": fields})
    return found


def say_unlock(context: Context, key: str) -> None:
    """How a manager that starts again is unlocked."""
    context.out(
        "To unlock a swarm manager after it restarts, run the `rorqual swarm unlock`\n"
        f"command and provide the following key:\n\n    {key}\n\n"
        "Remember to store this key in a password manager, since without it you\n"
        "will not be able to restart the manager."
    )


def say_join(context: Context, role: str) -> None:
    """How another node joins with this role."""
    client = context.client
    info = client.system.info()
    node = client.nodes.inspect(info["Swarm"]["NodeID"])
    status = node.get("ManagerStatus")
    if not status:
        return
    token = client.swarm.inspect()["JoinTokens"][role.capitalize()]
    context.out(
        f"To add a {role} to this swarm, run the following command:\n\n"
        f"    docker swarm join --token {token} {status['Addr']}\n"
    )
