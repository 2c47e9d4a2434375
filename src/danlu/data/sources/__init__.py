"""Where data come from: files, folders, the hub, Python objects, bundled and made-up sets."""
