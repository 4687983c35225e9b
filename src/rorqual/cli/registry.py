"""The table of commands: where each lives and its one line in help. Nothing is imported here."""

from __future__ import annotations

# Group -> (line of help, {verb: (module below commands, line of help)})
GROUPS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "builder": (
        "Manage builds",
        {
            "build": ("image.build", "Build an image from a Dockerfile"),
            "prune": ("image.build_prune", "Remove build cache"),
        },
    ),
    "compose": (
        "Define and run multi-container applications",
        {
            "attach": (
                "compose.attach",
                "Attach local standard input, output, and error streams to a service's running container",
            ),
            "build": ("compose.build", "Build or rebuild services"),
            "commit": ("compose.commit", "Create a new image from a service container's changes"),
            "config": ("compose.config", "Parse, resolve and render compose file in canonical format"),
            "cp": ("compose.cp", "Copy files/folders between a service container and the local filesystem"),
            "create": ("compose.create", "Creates containers for a service"),
            "down": ("compose.down", "Stop and remove containers, networks"),
            "events": ("compose.events", "Receive real time events from containers"),
            "exec": ("compose.exec", "Execute a command in a running container"),
            "export": ("compose.export", "Export a service container's filesystem as a tar archive"),
            "images": ("compose.images", "List images used by the created containers"),
            "kill": ("compose.kill", "Force stop service containers"),
            "logs": ("compose.logs", "View output from containers"),
            "ls": ("compose.ls", "List running compose projects"),
            "pause": ("compose.pause", "Pause services"),
            "port": ("compose.port", "Print the public port for a port binding"),
            "ps": ("compose.ps", "List containers"),
            "pull": ("compose.pull", "Pull service images"),
            "push": ("compose.push", "Push service images"),
            "restart": ("compose.restart", "Restart service containers"),
            "rm": ("compose.rm", "Removes stopped service containers"),
            "run": ("compose.run", "Run a one-off command on a service"),
            "scale": ("compose.scale", "Scale services"),
            "start": ("compose.start", "Start services"),
            "stats": ("compose.stats", "Display a live stream of container(s) resource usage statistics"),
            "stop": ("compose.stop", "Stop services"),
            "top": ("compose.top", "Display the running processes"),
            "unpause": ("compose.unpause", "Unpause services"),
            "up": ("compose.up", "Create and start containers"),
            "version": ("compose.version", "Show the Compose version information"),
            "volumes": ("compose.volumes", "List volumes"),
            "wait": ("compose.wait", "Block until containers of all (or specified) services stop."),
            "watch": (
                "compose.watch",
                "Watch build context for service and rebuild/refresh containers when files are updated",
            ),
        },
    ),
    "container": (
        "Manage containers",
        {
            "attach": (
                "container.attach",
                "Attach local standard input, output, and error streams to a running container",
            ),
            "commit": ("container.commit", "Create a new image from a container's changes"),
            "cp": ("container.cp", "Copy files/folders between a container and the local filesystem"),
            "create": ("container.create", "Create a new container"),
            "diff": ("container.diff", "Inspect changes to files or directories on a container's filesystem"),
            "exec": ("container.exec", "Execute a command in a running container"),
            "export": ("container.export", "Export a container's filesystem as a tar archive"),
            "inspect": ("container.inspect", "Display detailed information on one or more containers"),
            "kill": ("container.kill", "Kill one or more running containers"),
            "logs": ("container.logs", "Fetch the logs of a container"),
            "ls": ("container.ls", "List containers"),
            "pause": ("container.pause", "Pause all processes within one or more containers"),
            "port": ("container.port", "List port mappings or a specific mapping for the container"),
            "prune": ("container.prune", "Remove all stopped containers"),
            "rename": ("container.rename", "Rename a container"),
            "restart": ("container.restart", "Restart one or more containers"),
            "rm": ("container.rm", "Remove one or more containers"),
            "run": ("container.run", "Create and run a new container from an image"),
            "start": ("container.start", "Start one or more stopped containers"),
            "stats": ("container.stats", "Display a live stream of container(s) resource usage statistics"),
            "stop": ("container.stop", "Stop one or more running containers"),
            "top": ("container.top", "Display the running processes of a container"),
            "unpause": ("container.unpause", "Unpause all processes within one or more containers"),
            "update": ("container.update", "Update configuration of one or more containers"),
            "wait": ("container.wait", "Block until one or more containers stop, then print their exit codes"),
        },
    ),
    "context": (
        "Manage contexts",
        {
            "create": ("context.create", "Create a context"),
            "export": ("context.export", "Export a context to a tar archive FILE or a tar stream on STDOUT."),
            "import": ("context.import_", "Import a context from a tar or zip file"),
            "inspect": ("context.inspect", "Display detailed information on one or more contexts"),
            "ls": ("context.ls", "List contexts"),
            "rm": ("context.rm", "Remove one or more contexts"),
            "show": ("context.show", "Print the name of the current context"),
            "update": ("context.update", "Update a context"),
            "use": ("context.use", "Set the current docker context"),
        },
    ),
    "image": (
        "Manage images",
        {
            "build": ("image.build", "Build an image from a Dockerfile"),
            "history": ("image.history", "Show the history of an image"),
            "import": ("image.import_", "Import the contents from a tarball to create a filesystem image"),
            "inspect": ("image.inspect", "Display detailed information on one or more images"),
            "load": ("image.load", "Load an image from a tar archive or STDIN"),
            "ls": ("image.ls", "List images"),
            "prune": ("image.prune", "Remove unused images"),
            "pull": ("image.pull", "Download an image from a registry"),
            "push": ("image.push", "Upload an image to a registry"),
            "rm": ("image.rm", "Remove one or more images"),
            "save": ("image.save", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
            "tag": ("image.tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
        },
    ),
    "manifest": (
        "Manage Docker image manifests and manifest lists",
        {
            "annotate": ("manifest.annotate", "Add additional information to a local image manifest"),
            "create": ("manifest.create", "Create a local manifest list for annotating and pushing to a registry"),
            "inspect": ("manifest.inspect", "Display an image manifest, or manifest list"),
            "push": ("manifest.push", "Push a manifest list to a repository"),
            "rm": ("manifest.rm", "Delete one or more manifest lists from local storage"),
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": ("network.connect", "Connect a container to a network"),
            "create": ("network.create", "Create a network"),
            "disconnect": ("network.disconnect", "Disconnect a container from a network"),
            "inspect": ("network.inspect", "Display detailed information on one or more networks"),
            "ls": ("network.ls", "List networks"),
            "prune": ("network.prune", "Remove all unused networks"),
            "rm": ("network.rm", "Remove one or more networks"),
        },
    ),
    "node": (
        "Manage Swarm nodes",
        {
            "demote": ("node.demote", "Demote one or more nodes from manager in the swarm"),
            "inspect": ("node.inspect", "Display detailed information on one or more nodes"),
            "ls": ("node.ls", "List nodes in the swarm"),
            "promote": ("node.promote", "Promote one or more nodes to manager in the swarm"),
            "rm": ("node.rm", "Remove one or more nodes from the swarm"),
            "update": ("node.update", "Update a node"),
        },
    ),
    "registry": (
        "Serve images to others",
        {
            "serve": ("registry.serve", "Serve the engine's content store as a registry"),
        },
    ),
    "swarm": (
        "Manage Swarm",
        {
            "ca": ("swarm.ca", "Display and rotate the root CA"),
            "init": ("swarm.init", "Initialize a swarm"),
            "join-token": ("swarm.join_token", "Manage join tokens"),
            "leave": ("swarm.leave", "Leave the swarm"),
            "unlock": ("swarm.unlock", "Unlock swarm"),
            "unlock-key": ("swarm.unlock_key", "Manage the unlock key"),
            "update": ("swarm.update", "Update the swarm"),
        },
    ),
    "system": (
        "Manage Rorqual",
        {
            "check": ("system.check", "Check everything in the engine's store"),
            "df": ("system.df", "Show docker disk usage"),
            "events": ("system.events", "Get real time events from the server"),
            "info": ("system.info", "Display system-wide information"),
            "prune": ("system.prune", "Remove unused data"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": ("volume.create", "Create a volume"),
            "inspect": ("volume.inspect", "Display detailed information on one or more volumes"),
            "ls": ("volume.ls", "List volumes"),
            "prune": ("volume.prune", "Remove unused local volumes"),
            "rm": ("volume.rm", "Remove one or more volumes"),
            "update": ("volume.update", "Update a volume (cluster volumes only)"),
        },
    ),
}

# Groups that have flags of their own, and the module below commands with their `FLAGS`.
GROUP_FLAGS = {"compose": "compose.loading"}

# Verbs that work and are not listed.
HIDDEN: dict[str, str] = {
    "compose convert": "compose.config",
    "container list": "container.ls",
    "container ps": "container.ls",
    "container remove": "container.rm",
    "context list": "context.ls",
    "context remove": "context.rm",
    "image list": "image.ls",
    "image remove": "image.rm",
    "network list": "network.ls",
    "network remove": "network.rm",
    "node list": "node.ls",
    "node remove": "node.rm",
    "volume list": "volume.ls",
    "volume remove": "volume.rm",
    "system dial-stdio": "system.dial_stdio",
}

COMMON: dict[str, tuple[str, str]] = {
    "run": ("container.run", "Create and run a new container from an image"),
    "exec": ("container.exec", "Execute a command in a running container"),
    "ps": ("container.ls", "List containers"),
    "build": ("image.build", "Build an image from a Dockerfile"),
    "pull": ("image.pull", "Download an image from a registry"),
    "push": ("image.push", "Upload an image to a registry"),
    "images": ("image.ls", "List images"),
    "login": ("system.login", "Authenticate to a registry"),
    "logout": ("system.logout", "Log out from a registry"),
    "search": ("system.search", "Search Docker Hub for images"),
    "version": ("system.version", "Show the Rorqual version information"),
    "info": ("system.info", "Display system-wide information"),
}

_CONTAINER, _IMAGE = GROUPS["container"][1], GROUPS["image"][1]

OTHERS: dict[str, tuple[str, str]] = {
    **{
        verb: _CONTAINER[verb]
        for verb in (
            "attach", "commit", "cp", "create", "diff", "export", "kill", "logs", "pause", "port", "rename",
            "restart", "rm", "start", "stats", "stop", "top", "unpause", "update", "wait",
        )
    },
    **{verb: _IMAGE[verb] for verb in ("history", "import", "load", "save", "tag")},
    "completion": ("system.completion", "Generate the autocompletion script for the specified shell"),
    "events": ("system.events", "Get real time events from the server"),
    "inspect": ("system.inspect", "Return low-level information on Docker objects"),
    "rmi": ("image.rm", "Remove one or more images"),
}  # fmt: skip


def find(words: list[str]) -> tuple[str, int] | None:
    """(module, how many words name it) of the command that `words` begin with; None when there is none."""
    first = words[0]
    entry = COMMON.get(first) or OTHERS.get(first)
    if entry is not None:
        return entry[0], 1
    group = GROUPS.get(first)
    if group is not None and len(words) > 1:
        verb = group[1].get(words[1])
        if verb is not None:
            return verb[0], 2
        hidden = HIDDEN.get(f"{first} {words[1]}")
        if hidden is not None:
            return hidden, 2
    return None
