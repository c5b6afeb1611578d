"""Training of LongLive model packages."""
