"""gRPC and ttrpc plumbing, their messages, and the mapping of errors to and from the wire."""
