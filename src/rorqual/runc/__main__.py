"""`python -I -S .../rorqual/runc`: rorqual-runc where nothing but this file says where the package is."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/rorqual/")[0])
    from rorqual.runc.main import main

    main()
