"""The model server beside its peers: same machine, same models, same core, every answer checked."""
