"""What keeps a Compose file from taking the client's memory."""

from mutation.mutations import mutation

MUTATIONS = (
    mutation(
        "nodes are counted before they are made",
        "tests/unit/compose/test_yamltext.py::test_aliases_that_stand_for_more_than_memory_holds",
        ("compose/yamltext.py", "if _size(node, {}) > _MAX_NODES:", "if _size(node, {}) > _MAX_NODES**3:"),
    ),
)
