"""What the local platform does on its machine: processes, ports, files, the gateway's configuration."""
