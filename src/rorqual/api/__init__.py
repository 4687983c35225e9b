"""Wire types of the Engine REST API: frozen dataclasses, one codec. Pure data, shared by daemon and client."""
