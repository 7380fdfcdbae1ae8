"""Stub."""
from . import layout
CTR = ["ctr", f"--address={layout.CONTAINERD_SOCKET}", "--namespace=k8s.io"]
def build(built): return {}
def load(archives, progress): pass
