"""The provider behind `platform: local`: it makes processes, files and ports what the stack says."""
