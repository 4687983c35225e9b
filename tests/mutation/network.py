"""What protects containers and the host from each other's packets and questions."""

from mutation.mutations import mutation

_LOOPBACK_RULES = (
    (
        "libnetwork/firewall/ruleset.py",
        "        'raw-prerouting ip daddr 127.0.0.0/8 iifname != \"lo\" ip daddr . meta l4proto . th dport @loopback-ports drop',\n",
        "",
    ),
    ("libnetwork/firewall/ruleset.py", '        "raw-prerouting ip daddr 127.0.0.0/8 iifname @bridges drop",\n', ""),
)

MUTATIONS = (
    mutation(
        "a port on the loopback is matched by its address",
        "tests/integration/test_security.py::"
        "test_cve_2025_54388_a_port_published_on_loopback_is_not_reachable_from_elsewhere",
        (
            "libnetwork/firewall/elements.py",
            "    if port.host_ip in (ANY, ANY6):\n",
            "    if port.host_ip in (ANY, ANY6) or port.host_ip.is_loopback:\n",
        ),
    ),
    mutation(
        "other programs' changes are repaired",
        "tests/integration/libnetwork/test_recovery.py::test_cve_2025_54388_another_programs_flush_is_repaired",
        (
            "libnetwork/firewall/keeper.py",
            '                return generation.process or "an unknown program"\n',
            '                return ""\n',
        ),
    ),
    mutation(
        "packets for the loopback are dropped early",
        "tests/integration/libnetwork/test_traffic.py::test_cve_2025_54410_loopback_port_stays_on_loopback",
        *_LOOPBACK_RULES,
    ),
    mutation(
        "router advertisements are not listened to",
        "tests/integration/libnetwork/test_ipv6.py::"
        "test_cve_2020_13401_a_containers_router_advertisement_is_not_listened_to",
        ("libnetwork/interfaces.py", "        if not accept_ra:\n", "        if accept_ra is None:\n"),
    ),
    mutation(
        "questions of internal networks are not sent on, and leave from the asker's namespace",
        "tests/integration/libnetwork/test_dns.py::"
        "test_other_names_are_asked_of_the_servers_and_on_internal_networks_cve_2024_29018_of_none",
        (
            "libnetwork/dns/forward.py",
            "        away = not from_host and question.netns >= 0\n",
            "        away = False\n",
        ),
        (
            "libnetwork/dns/server.py",
            "        if not view.forward or not view.servers or sandbox.forwarding >= share:\n",
            "        if not view.servers or sandbox.forwarding >= share:\n",
        ),
    ),
    mutation(
        "nobody gets more than half of what is free",
        "tests/unit/libnetwork/dns/test_server.py::test_hostile_sandboxes_leave_room_for_the_questions_of_another",
        (
            "libnetwork/dns/server.py",
            "min(_FORWARDS_MAX, (PENDING_MAX - len(self._forwarder)) // 2)",
            "min(_FORWARDS_MAX, PENDING_MAX)",
        ),
    ),
    mutation(
        "names that cannot be said are no pointers",
        "tests/unit/libnetwork/dns/test_zone.py::test_a_name_that_dns_cannot_say_is_no_pointer_and_ends_nothing",
        (
            "libnetwork/dns/zone.py",
            "                except ValueError:\n                    return []",
            "                except ArithmeticError:\n                    return []",
        ),
    ),
    mutation(
        "a proxy listens on the address that was asked for",
        "tests/integration/libnetwork/test_port_proxy.py::test_a_port_published_on_the_loopback_address_stays_there",
        (
            "libnetwork/ports.py",
            "            sock.bind((str(address), key.port))\n",
            '            sock.bind(("::" if address.version == 6 else str(address), key.port))\n',
        ),
    ),
    mutation(
        "packets of a network's addresses come in by its bridge only",
        "tests/integration/libnetwork/test_spoofing.py::test_a_container_cannot_answer_for_anothers_published_port",
        (
            "libnetwork/firewall/ruleset.py",
            '        "raw-prerouting iifname . ip saddr != @sources iifname @rooted fib saddr . iif oif missing "\n'
            '        "ip saddr @subnets drop",\n',
            "",
        ),
        (
            "libnetwork/firewall/ruleset.py",
            '        "raw-prerouting iifname . ip6 saddr != @sources6 iifname @rooted6 fib saddr . iif oif missing "\n'
            '        "ip6 saddr @subnets6 drop",\n',
            "",
        ),
    ),
    mutation(
        "names are looked up on the asker's networks",
        "tests/integration/libnetwork/test_dns.py::test_names_are_known_on_their_networks_and_on_no_other",
        (
            "libnetwork/dns/zone.py",
            "        for network_id in view.networks:\n            network = self.networks.get(network_id)\n            found =",
            "        for network_id in self.networks:\n            network = self.networks.get(network_id)\n            found =",
        ),
    ),
    mutation(
        "what is not let in is dropped",
        "tests/integration/libnetwork/test_ipv6.py::test_two_bridges_cannot_reach_each_other_in_either_family",
        ("libnetwork/firewall/ruleset.py", '        "to-container drop",\n', ""),
    ),
    mutation(
        "others may use the engine while a plugin is asked",
        "tests/integration/libnetwork/test_plugins.py::test_a_plugin_that_hangs_holds_up_nobody_else",
        (
            "libnetwork/baton.py",
            "        self._lock.release()\n        try:\n            yield\n        finally:\n            self._lock.acquire()\n",
            "        yield\n",
        ),
    ),
)
