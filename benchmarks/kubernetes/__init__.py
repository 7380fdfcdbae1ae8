"""What the components cost on Kubernetes beside the same objects written by hand."""
