"""Network drivers, one file each, behind `base.Driver`."""
