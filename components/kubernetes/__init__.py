"""The estate on any Kubernetes cluster: the one that the kubeconfig names."""
