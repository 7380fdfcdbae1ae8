"""The resources of a local stack, one a file: what each is given, and how it is made so."""
