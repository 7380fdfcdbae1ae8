"""How a bare host gets what it needs: the Pulumi engine, and the locked Python environment."""
