"""What the Engine API does, a module or package a resource; nothing here knows HTTP."""
