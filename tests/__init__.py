"""A package, so that no other of this name on the path, as learn2learn brings one, comes first."""
