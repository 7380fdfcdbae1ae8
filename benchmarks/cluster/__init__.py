"""Many endpoints on a real API server, with nodes and pods that kwok plays."""
