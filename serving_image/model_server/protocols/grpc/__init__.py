"""The Open Inference Protocol v2 over gRPC, with health checking and reflection."""
