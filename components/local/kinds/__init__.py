"""The resources of the local platform, one a file: what each is given, and how it is made so."""
