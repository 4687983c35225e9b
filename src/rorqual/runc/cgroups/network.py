"""net_cls and net_prio (v1 only): the class of a container's packets and its priority by interface."""

from rorqual.oci.runtime import NetworkResources
from rorqual.runc.cgroups.settings import Write, Writes


def class_id(network: NetworkResources) -> Writes:
    return [Write("net_cls.classid", str(network.class_id))] if network.class_id else []


def priorities(network: NetworkResources) -> Writes:
    return [Write("net_prio.ifpriomap", f"{entry.name} {entry.priority}") for entry in network.priorities]
