"""Before training: what careful people check by hand, in about five seconds."""
