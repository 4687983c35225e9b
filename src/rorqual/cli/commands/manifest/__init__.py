"""`rorqual manifest`: indexes of images that registries have already; drafts of them are kept beside config.json."""
