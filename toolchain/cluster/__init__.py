"""A single-node Kubernetes on a bare Linux host: every part pinned, built or installed, cached, removable."""
