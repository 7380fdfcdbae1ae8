"""The resources on Kubernetes that are none of its objects, one a file."""
