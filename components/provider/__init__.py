"""The provider of the package's own resources: each is a kind, in `kinds/` of its platform."""
