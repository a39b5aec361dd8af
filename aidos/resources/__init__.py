"""The operations of each module, one file a module: nouns with their verbs."""
